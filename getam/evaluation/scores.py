"""Scores of masks against the truth: one confusion matrix over all images of a split.

docs/explanation/method.md, section 6.
"""

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
    """The confusion matrix of masks, with the names of its classes.

    Attributes:
        classes: names, background first.
        matrix: of masks against their truth.
    """

    classes: tuple[str, ...]
    matrix: ConfusionMatrix

    @property
    def counts(self) -> np.ndarray:
        """int64 (C + 1, C + 2), pixels by true and predicted label; the last column counts pixels that the masks leave
        unknown (255), as pseudo labels do. Pixels whose truth is unknown are left out.
        """
        rows, columns = self.matrix.counts.shape
        return np.pad(self.matrix.counts, ((0, 0), (0, rows + 1 - columns)))

    def iou(self) -> np.ndarray:
        """IoU of each class, float64; an unknown pixel is missed by its true class. NaN where the union is empty."""
        return self.matrix.iou()

    def miou(self) -> float:
        """Mean of the classes whose union is not empty."""
        return self.matrix.miou()

    def labelled(self) -> float:
        """Fraction of the pixels that the masks do not leave unknown."""
        counts = self.counts
        return float(1 - counts[:, -1].sum() / counts.sum())

    def summary(self) -> dict[str, float]:
        """Name -> number, as in the last lines of iou.csv."""
        numbers = self.miou(), self.matrix.frequency_weighted_iou(), self.matrix.accuracy(), self.labelled()
        return dict(zip(_SUMMARY, numbers, strict=True))


def score_masks(split: Split, classes: Sequence[str], masks: Path, workers: int = 1) -> Score:
    """Compares <id>.png of a folder with the truth of every image of a split.

    Args:
        classes: names of the C foreground classes.
        workers: processes that read masks.

    Raises:
        FileNotFoundError: masks are missing; the message names the first.
        ValueError: the split has no truth, or a mask has another size or a label that is not a class.
    """
    if split.masks is None:
        raise ValueError(f"split {split.name!r} has no masks to compare with")
    check_present(masks, [masks / f"{name}.png" for name in split.ids], f"masks of split {split.name!r}")
    pairs = [(split.mask(name), masks / f"{name}.png") for name in split.ids]
    matrix = ConfusionMatrix(len(classes) + 1, unknown=True)
    for part in map_unordered(partial(_count, matrix.num_classes), _portions(pairs, 16), workers):
        matrix.counts += part.counts
    return Score((BACKGROUND_NAME, *classes), matrix)


def worst_images(split: Split, classes: Sequence[str], masks: Path, count: int) -> list[str]:
    """Ids of the images whose masks have the lowest mIoU, each on its own, worst first.

    Raises: as `score_masks`.
    """
    score_of = {}
    for name in split.ids:
        matrix = _count(len(classes) + 1, [(split.mask(name), masks / f"{name}.png")])
        if matrix.counts.any():
            score_of[name] = matrix.miou()
    return sorted(score_of, key=score_of.get)[:count]


def _portions(pairs: list, size: int) -> Iterator[list]:
    return (pairs[start : start + size] for start in range(0, len(pairs), size))


def _count(labels: int, pairs: list[tuple[Path, Path]]) -> ConfusionMatrix:
    """The matrix of some images, each the paths of its truth and of its mask."""
    matrix = ConfusionMatrix(labels, unknown=True)
    for truth_path, mask_path in pairs:
        truth = read_mask(truth_path)
        mask = read_mask(mask_path, truth.shape)
        for path, values in ((truth_path, truth), (mask_path, mask)):
            strangers = values[(values >= labels) & (values != UNKNOWN)]
            if strangers.size:
                raise ValueError(f"{path}: label {strangers[0]} is not among the {labels} labels")
        matrix.update(truth, mask)
    return matrix


def write_score(folder: Path, score: Score, name: str = "iou") -> Path:
    """Writes <name>.csv, IoU per class and the summary, and <name>_confusion.csv; returns the path of the first."""
    rows = [("class", "iou"), *zip(score.classes, score.iou().tolist(), strict=True), *score.summary().items()]
    write_text(folder / f"{name}.csv", csv_text(rows))
    confusion = [("truth", *score.classes, "unknown")]
    confusion += [(truth, *counts) for truth, counts in zip(score.classes, score.counts.tolist(), strict=True)]
    write_text(folder / f"{name}_confusion.csv", csv_text(confusion))
    return folder / f"{name}.csv"


def read_summary(path: Path) -> dict[str, float]:
    """The last lines of a file of `write_score`: mIoU, frequency weighted IoU, pixel accuracy, labelled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: one of these lines is missing.
    """
    rows = {row[0]: row[1] for row in csv.reader(path.read_text(encoding="utf-8").splitlines()) if len(row) == 2}
    if missing := [name for name in _SUMMARY if name not in rows]:
        raise ValueError(f"{path}: no line {missing[0]!r}")
    return {name: float(rows[name]) for name in _SUMMARY}
