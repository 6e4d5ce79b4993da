"""IoU of each class of runs, with predicted and with known classes, beside the number of training images.

    python -m benchmarks.studies.by_class RUN... --split val --name voc6

IoU of each class by the predictions (without the CRF), by the same probabilities with every class left out that the
image does not have, and by the pseudo labels, which know the classes, too. Where the second is high and the first is
low, the network finds the object and confuses its class. Means over the runs, which differ by their seed. Images of
one class and of several are scored apart, too.

Writes benchmarks/results/by_class-<name>.csv.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measure import report_table
from benchmarks.studies.paired import groups_of, of_known_classes
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
    pseudo = read_mask(run.pseudo_labels(split) / f"{name}.png")
    return [probabilities.argmax(0), of_known_classes(probabilities, present), pseudo]


def ious(run: Run, split_name: str, tick: Callable[[], object]) -> np.ndarray:
    """(3, 3, C + 1): for each group of images, each of `COLUMNS` and each class, background first."""
    split = run.dataset.split(split_name)
    groups = groups_of(split).values()
    matrices = [[ConfusionMatrix(len(run.dataset.classes) + 1, unknown=True) for _ in COLUMNS] for _ in groups]
    for i, (name, present) in enumerate(zip(split.ids, split.labels, strict=True)):
        truth, found = read_mask(split.mask(name)), predictions(run, split_name, name, present)
        for chosen, of_group in zip(groups, matrices, strict=True):
            if chosen[i]:
                for matrix, labels in zip(of_group, found, strict=True):
                    matrix.update(truth, labels)
        tick()
    return np.array([[matrix.iou() for matrix in of_group] for of_group in matrices])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="with probabilities and pseudo labels")
    parser.add_argument("--split", default="val")
    parser.add_argument("--name", required=True, help="of the file")
    options = parser.parse_args()
    runs = [Run(folder) for folder in options.runs]
    with progress(total=sum(len(run.dataset.split(options.split)) for run in runs), unit="image") as bar:
        found = 100 * np.mean([ious(run, options.split, bar.update) for run in runs], axis=0)
    dataset = runs[0].dataset
    training = dataset.split(runs[0].experiment.data.split).labels.sum(0).astype(int)
    names, images = (BACKGROUND_NAME, *dataset.classes, "mean"), ("", *training, "")
    found = np.concatenate([found, np.nanmean(found, axis=-1, keepdims=True)], axis=-1)
    rows = []
    for c, (name, count) in enumerate(zip(names, images, strict=True)):
        if np.isfinite(found[..., c]).any():
            points = {
                f"{column}, {group}": f"{found[g, k, c]:.1f}"
                for g, group in enumerate(groups_of(dataset.split(options.split)))
                for k, column in enumerate(COLUMNS)
            }
            rows.append({"class": name, "training images": count, **points})
    report_table(f"by_class-{options.name}", [{**row, "runs": len(runs), "split": options.split} for row in rows])


if __name__ == "__main__":
    main()
