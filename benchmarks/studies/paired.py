"""mIoU of all images, of those with one class and of those with several; intervals of differences between labellings.

Two labellings of the same images are compared in pairs: the images are drawn again with replacement, the same for both,
and the interval holds 95% of the differences. It says how far a difference depends on the choice of the images; it does
not contain the spread between seeds of a training.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from getam.constants import UNKNOWN
from getam.data.dataset import Split
from getam.data.images import read_mask
from getam.evaluation.metrics import ConfusionMatrix

ROUNDS = 2000


def groups_of(split: Split) -> dict[str, np.ndarray]:
    """Which images belong to each group, bool (M,)."""
    return grouped(split.labels.sum(1))


def grouped(classes: np.ndarray) -> dict[str, np.ndarray]:
    """As `groups_of`, from each image's number of classes (M,)."""
    return {"all": classes >= 0, "one class": classes == 1, "several classes": classes > 1}


def of_known_classes(probabilities: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The most probable labels, uint8 (H, W), where background and the image's own classes alone are possible.

    Args:
        probabilities: (C + 1, H, W).
        present: (C,), above 0 for the classes of the image.
    """
    possible = np.concatenate([[True], present > 0])
    return (probabilities * possible[:, None, None]).argmax(0).astype(np.uint8)


def counts_of(split: Split, num_classes: int, find: Callable[[str], np.ndarray]) -> np.ndarray:
    """Pixels of each image by true and found label, int64 (M, C + 1, C + 2); the last column are unknown ones.

    Args:
        find: the labels of an image, uint8 (H, W), by its id.
    """
    counts = []
    for name in split.ids:
        matrix = ConfusionMatrix(num_classes + 1, unknown=True)
        matrix.update(read_mask(split.mask(name)), find(name))
        counts.append(matrix.counts)
    return np.stack(counts)


def write_counts(path: Path, ids: Sequence[str], found: Mapping[str, np.ndarray]) -> Path:
    """Write counts of the same images, as `counts_of` returns them, by their kind; the bytes depend on nothing else."""
    tables = []
    for kind, counts in found.items():
        image, true, label = np.nonzero(counts)
        pixels = counts[image, true, label]
        label = np.where(label == counts.shape[2] - 1, UNKNOWN, label)
        of_kind = {"labels": kind, "image": np.array(ids)[image], "true": true, "found": label, "pixels": pixels}
        tables.append(pd.DataFrame(of_kind))
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(tables).to_csv(path, index=False, compression={"method": "gzip", "mtime": 1})
    return path


def read_counts(path: Path, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Kind -> counts int64 (M, C + 1, C + 2) of the images, without the classes after the last that has a pixel.

    Raises:
        ValueError: the file has other images.
    """
    table = pd.read_csv(path, dtype={"image": str})
    if unexpected := set(table["image"]) ^ set(ids):
        raise ValueError(f"{path}: has other images than expected, such as {min(unexpected)!r}")
    classes = 1 + max(table["true"].max(), table["found"][table["found"] != UNKNOWN].max())
    place, found = {name: i for i, name in enumerate(ids)}, {}
    for kind, rows in table.groupby("labels", sort=False):
        label = rows["found"].where(rows["found"] != UNKNOWN, classes)
        found[kind] = np.zeros((len(ids), classes, classes + 1), np.int64)
        found[kind][rows["image"].map(place), rows["true"], label] = rows["pixels"]
    return found


def miou(counts: np.ndarray) -> np.ndarray:
    """Points of mIoU of counts (..., C + 1, K), summed over images; classes without a pixel in either are left out."""
    classes = counts.shape[-2]
    right = np.diagonal(counts[..., :classes], axis1=-2, axis2=-1).astype(float)
    union = counts.sum(-1) + counts.sum(-2)[..., :classes] - right
    iou = np.divide(right, union, out=np.full(right.shape, np.nan), where=union > 0)
    return 100 * np.nanmean(iou, -1)


def interval(pairs: Sequence[tuple[np.ndarray, np.ndarray]], seed: int = 0) -> tuple[float, float]:
    """95% of the differences of mIoU, first minus second, over images that are drawn again.

    Args:
        pairs: counts (M, C + 1, K) of both labellings, for each run; differences are averaged over the runs.
    """
    images = len(pairs[0][0])
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), ROUNDS)
    differences = np.mean([_drawn_miou(first, drawn) - _drawn_miou(second, drawn) for first, second in pairs], axis=0)
    return tuple(np.percentile(differences, (2.5, 97.5)))


def _drawn_miou(counts: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    totals = drawn.astype(float) @ counts.reshape(len(counts), -1)
    return miou(totals.reshape(len(drawn), *counts.shape[1:]))


def columns(
    runs: Sequence[np.ndarray], reference: Sequence[np.ndarray] | None, groups: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """mIoU in each group, and the difference from the reference with its interval.

    Args:
        runs, reference: counts (M, C + 1, K) of each run, in the same order.
    """
    row = {
        group: f"{np.mean([miou(counts[chosen].sum(0)) for counts in runs]):.1f}" for group, chosen in groups.items()
    }
    for group, chosen in groups.items():
        pairs = [
            (own[chosen], other[chosen]) for own, other in zip(runs, reference or [], strict=reference is not None)
        ]
        row[f"difference, {group}"] = _difference(pairs) if pairs else ""
    return row


def _difference(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> str:
    pairs = list(pairs)
    mean = np.mean([miou(own.sum(0)) - miou(other.sum(0)) for own, other in pairs])
    low, high = interval(pairs)
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"
