"""IoU of each class of runs, with predicted and with known classes, beside the number of training images.

    python -m benchmarks.studies.by_class RUN... --split val

IoU of each class by the predictions (without the CRF), by the same probabilities with every class left out that the
image does not have, and by the pseudo labels, which know the classes, too. Where the second is high and the first is
low, the network finds the object and confuses its class. Means over the runs, which differ by their seed.

Writes benchmarks/results/by_class-<first run>.csv.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measure import RESULTS, print_table, write_table
from getam.data.images import read_mask
from getam.evaluation.metrics import ConfusionMatrix
from getam.evaluation.probabilities import read_probabilities
from getam.evaluation.run import Run
from getam.evaluation.scores import BACKGROUND_NAME
from getam.utils.progress import progress

COLUMNS = ("prediction", "classes known", "pseudo labels")


def predictions(run: Run, split: str, name: str, present: np.ndarray) -> list[np.ndarray]:
    """Labels of one image, for each of `COLUMNS`."""
    probabilities = read_probabilities(run.folder / split / "probabilities" / f"{name}.npz")
    known = np.where(np.concatenate([[1], present]) > 0, 1, 0)[:, None, None]
    pseudo = read_mask(run.pseudo_labels(split) / f"{name}.png")
    return [probabilities.argmax(0), (probabilities * known).argmax(0), pseudo]


def ious(run: Run, split_name: str, tick: Callable[[], object]) -> np.ndarray:
    """(3, C + 1), for each of `COLUMNS` and each class, background first."""
    split = run.dataset.split(split_name)
    matrices = [ConfusionMatrix(len(run.dataset.classes) + 1, unknown=True) for _ in COLUMNS]
    for name, present in zip(split.ids, split.labels, strict=True):
        truth = read_mask(split.mask(name))
        for matrix, found in zip(matrices, predictions(run, split_name, name, present), strict=True):
            matrix.update(truth, found)
        tick()
    return np.stack([matrix.iou() for matrix in matrices])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="with probabilities and pseudo labels")
    parser.add_argument("--split", default="val")
    options = parser.parse_args()
    runs = [Run(folder) for folder in options.runs]
    with progress(total=sum(len(run.dataset.split(options.split)) for run in runs), unit="image") as bar:
        found = 100 * np.mean([ious(run, options.split, bar.update) for run in runs], axis=0)
    dataset = runs[0].dataset
    training = dataset.split(runs[0].experiment.data.split).labels.sum(0).astype(int)
    names, images = (BACKGROUND_NAME, *dataset.classes, "mean"), ("", *training, "")
    rows = []
    for name, count, iou in zip(names, images, [*found.T, np.nanmean(found, axis=1)], strict=True):
        points = {column: f"{value:.1f}" for column, value in zip(COLUMNS, iou, strict=True)}
        rows.append({"class": name, "training images": count, **points})
    print_table(rows)
    table = RESULTS / f"by_class-{runs[0].folder.name}.csv"
    write_table(table, [{**row, "runs": len(runs), "split": options.split} for row in rows])
    print(f"written to {table}")


if __name__ == "__main__":
    main()
