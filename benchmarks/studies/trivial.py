"""Baselines that ignore shape and pattern: the mIoU that a result on a data set has to be compared with.

    python -m benchmarks.studies.trivial DATASET

Each labelling is fitted to the masks of one split, which the method never sees, and scored on another. So it is an
upper bound on the same labelling fitted to image-level labels.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measure import print_table, write_table
from getam import ConfusionMatrix
from getam.constants import UNKNOWN
from getam.data.dataset import Split, open_dataset
from getam.data.images import read_image, read_mask

_BINS = 16  # per colour channel
_PLACES = 16  # per side

Labelling = Callable[[np.ndarray], np.ndarray]


def all_background(split: Split, num_classes: int) -> Labelling:
    """0 everywhere."""
    return lambda image: np.zeros(image.shape[:2], np.uint8)


def nearest_mean_colour(split: Split, num_classes: int) -> Labelling:
    """The class whose mean colour, over all its pixels, is nearest."""
    sums, counts = np.zeros((num_classes + 1, 3)), np.zeros(num_classes + 1)
    for image, mask in _pixels(split):
        known = mask != UNKNOWN
        counts += np.bincount(mask[known], minlength=num_classes + 1)
        for channel in range(3):
            sums[:, channel] += np.bincount(mask[known], image[known][:, channel], num_classes + 1)
    means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], np.inf)
    return lambda image: ((image[:, :, None] - means) ** 2).sum(-1).argmin(-1)


def commonest_by_colour(split: Split, num_classes: int) -> Labelling:
    """The most frequent class of each colour; every class has the same weight."""
    return _commonest(split, num_classes, lambda image: (image // (256 // _BINS)) @ (_BINS**2, _BINS, 1), _BINS**3)


def commonest_by_place(split: Split, num_classes: int) -> Labelling:
    """The most frequent class of each position; every class has the same weight."""

    def place(image: np.ndarray) -> np.ndarray:
        rows, columns = (np.arange(length) * _PLACES // length for length in image.shape[:2])
        return rows[:, None] * _PLACES + columns

    return _commonest(split, num_classes, place, _PLACES**2)


def _commonest(split: Split, num_classes: int, cell_of: Labelling, cells: int) -> Labelling:
    counts = np.zeros((cells, num_classes + 1))
    for image, mask in _pixels(split):
        known = mask != UNKNOWN
        np.add.at(counts, (cell_of(image)[known], mask[known]), 1)
    shares = counts / np.maximum(counts.sum(0), 1)
    return lambda image: shares[cell_of(image)].argmax(-1)


LABELLINGS = {
    "all background": all_background,
    "nearest mean colour": nearest_mean_colour,
    "commonest class of the colour": commonest_by_colour,
    "commonest class of the place": commonest_by_place,
}


def score(labelling: Labelling, split: Split, num_classes: int, classes_known: bool = False) -> float:
    """mIoU on a split. With `classes_known`, a class that is not in the image's labels becomes background."""
    matrix = ConfusionMatrix(num_classes + 1)
    for i, (image, mask) in enumerate(_pixels(split)):
        found = labelling(image)
        if classes_known:
            found = np.where(np.concatenate([[1], split.labels[i]])[found] > 0, found, 0)
        matrix.update(mask, found.astype(np.uint8))
    return matrix.miou()


def _pixels(split: Split):
    for name in split.ids:
        image = read_image(split.image(name))
        yield image.astype(int), read_mask(split.mask(name), image.shape[:2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="folder that `getam prepare` has written")
    parser.add_argument("--fitted-to", default="train", help="split (%(default)s)")
    parser.add_argument("--scored-on", default="val", help="split (%(default)s)")
    parser.add_argument("--table", type=Path, help="CSV to write")
    options = parser.parse_args()
    dataset = open_dataset(options.dataset)
    fitted_to, scored_on = dataset.split(options.fitted_to), dataset.split(options.scored_on)
    rows = []
    for name, fit in LABELLINGS.items():
        labelling = fit(fitted_to, len(dataset.classes))
        free, known = (score(labelling, scored_on, len(dataset.classes), known) for known in (False, True))
        rows.append({"labelling": name, "mIoU": f"{100 * free:.1f}", "mIoU, classes known": f"{100 * known:.1f}"})
    print_table(rows)
    if options.table:
        about = {"data set": dataset.name, "fitted to": len(fitted_to), "scored on": len(scored_on)}
        write_table(options.table, [{**row, **about} for row in rows])


if __name__ == "__main__":
    main()
