"""Scores of masks against the truth: one confusion matrix over all images of a split (docs/method.md section 6)."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from getam.constants import UNKNOWN
from getam.data.dataset import Split
from getam.data.images import read_mask
from getam.evaluation.metrics import ConfusionMatrix
from getam.utils.files import check_present, csv_text, write_text
from getam.utils.parallel import map_unordered

BACKGROUND_NAME = "background"
_SUMMARY = ("mIoU", "frequency weighted IoU", "pixel accuracy", "labelled")


@dataclass(frozen=True)
class Score:
    """What masks are worth.

    Attributes:
        classes: names, background first.
        counts: int64 (C + 1, C + 2), pixels by true label and predicted label; the last column is what the masks leave
            unknown (255), as pseudo labels do. Pixels whose truth is unknown are left out.
    """

    classes: tuple[str, ...]
    counts: np.ndarray

    @property
    def confusion(self) -> ConfusionMatrix:
        """Of the pixels that are labelled."""
        matrix = ConfusionMatrix(len(self.classes))
        matrix.counts += self.counts[:, :-1]
        return matrix

    def iou(self) -> np.ndarray:
        """IoU of each class, float64; an unknown pixel is one that its class misses. NaN where the union is empty."""
        hits = np.diag(self.counts).astype(float)
        union = self.counts.sum(1) + self.counts[:, :-1].sum(0) - hits
        return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)

    def miou(self) -> float:
        """Mean of the classes whose union is not empty."""
        return float(np.nanmean(self.iou()))

    def labelled(self) -> float:
        """The part of the pixels that the masks do not leave unknown."""
        return float(1 - self.counts[:, -1].sum() / self.counts.sum())

    def summary(self) -> dict[str, float]:
        """Name -> number, of the last lines of iou.csv."""
        total = self.counts.sum()
        weighted = np.nansum(self.iou() * self.counts.sum(1)) / total
        accuracy = np.trace(self.counts) / total
        return dict(zip(_SUMMARY, (self.miou(), float(weighted), float(accuracy), self.labelled()), strict=True))


def score_masks(split: Split, classes: Sequence[str], masks: Path, workers: int = 1) -> Score:
    """Compares <id>.png of a folder with the truth of every image of a split.

    Args:
        classes: names of the C foreground classes.

    Raises:
        FileNotFoundError: masks are missing; the message names the first.
        ValueError: the split has no truth, or a mask has another size or a label that is no class.
    """
    if split.masks is None:
        raise ValueError(f"split {split.name!r} has no masks to compare with")
    check_present(masks, [masks / f"{name}.png" for name in split.ids], f"masks of split {split.name!r}")
    pairs = [(split.mask(name), masks / f"{name}.png") for name in split.ids]
    parts = map_unordered(partial(_count, len(classes) + 1), _portions(pairs, 16), workers)
    return Score((BACKGROUND_NAME, *classes), sum(parts))


def worst_images(split: Split, classes: Sequence[str], masks: Path, count: int) -> list[str]:
    """Ids of the images whose masks have the lowest mIoU, each on its own, worst first.

    Raises: as `score_masks`.
    """
    score_of = {}
    for name in split.ids:
        counts = _count(len(classes) + 1, [(split.mask(name), masks / f"{name}.png")])
        if counts.any():
            score_of[name] = Score((BACKGROUND_NAME, *classes), counts).miou()
    return sorted(score_of, key=score_of.get)[:count]


def _portions(pairs: list, size: int) -> Iterator[list]:
    return (pairs[start : start + size] for start in range(0, len(pairs), size))


def _count(labels: int, pairs: list[tuple[Path, Path]]) -> np.ndarray:
    """(labels, labels + 1) of some images: a confusion matrix in which unknown is one more label to be predicted."""
    matrix = ConfusionMatrix(labels + 1)
    for truth_path, mask_path in pairs:
        truth = read_mask(truth_path)
        mask = read_mask(mask_path, truth.shape)
        for path, values in ((truth_path, truth), (mask_path, mask)):
            strangers = values[(values >= labels) & (values != UNKNOWN)]
            if strangers.size:
                raise ValueError(f"{path}: label {strangers[0]} is not among the {labels} labels")
        matrix.update(truth, np.where(mask == UNKNOWN, labels, mask))
    return matrix.counts[:labels]


def write_score(folder: Path, score: Score, name: str = "iou") -> Path:
    """Writes <name>.csv, IoU per class and the summary, and <name>_confusion.csv; returns the path of the first."""
    rows = [("class", "iou"), *zip(score.classes, score.iou().tolist(), strict=True), *score.summary().items()]
    write_text(folder / f"{name}.csv", csv_text(rows))
    confusion = [("truth", *score.classes, "unknown")]
    confusion += [(truth, *counts) for truth, counts in zip(score.classes, score.counts.tolist(), strict=True)]
    write_text(folder / f"{name}_confusion.csv", csv_text(confusion))
    return folder / f"{name}.csv"


def read_summary(path: Path) -> dict[str, float]:
    """The last lines of what `write_score` has written: mIoU, frequency weighted IoU, pixel accuracy, labelled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file.
    """
    rows = {row[0]: row[1] for row in csv.reader(path.read_text(encoding="utf-8").splitlines()) if len(row) == 2}
    if missing := [name for name in _SUMMARY if name not in rows]:
        raise ValueError(f"{path}: no line {missing[0]!r}")
    return {name: float(rows[name]) for name in _SUMMARY}
