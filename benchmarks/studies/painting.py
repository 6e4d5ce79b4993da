"""The outputs of runs beside labellings that take their shapes from saliency alone.

    python -m benchmarks.studies.painting RUN... --split val --name voc6

Every salient pixel of an image gets one class: the commonest of the training images, the first of the image's own
labels, or the one that the run's own classifier scores highest. What maps and decoder add has to be seen beside these.
Images of one class and of several are scored apart, too; differences are taken from the painting that knows as much,
with their intervals (benchmarks/studies/paired.py). Means over the runs, which differ by their seed.

Writes benchmarks/results/painting-<name>.csv and, with the average precision of the classifier,
benchmarks/results/classifier-<name>.csv.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import report_table
from benchmarks.studies.paired import columns, counts_of, groups_of, miou, of_known_classes
from getam.data.augmentation import centred_view
from getam.data.dataset import Split
from getam.data.images import image_size, read_image, read_mask
from getam.evaluation.probabilities import read_probabilities
from getam.evaluation.run import Run
from getam.models.backbones import normalise_images
from getam.models.runtime import eval_mode
from getam.utils.progress import progress

BLIND, KNOWING = "saliency x the classifier's first class", "saliency x the image's first label"


@torch.inference_mode()
def class_scores(run: Run, split: Split) -> np.ndarray:
    """The classifier's logits for centred views of the crop's size, float32 (M, C)."""
    network, found = run.load_network(torch.device("cpu")), []
    with eval_mode(network):
        for name in progress(split.ids, unit="image"):
            image = read_image(split.image(name))
            view = centred_view(image, np.zeros(image.shape[:2], np.uint8), run.experiment.training.crop)
            found.append(network.classify(normalise_images(view.image_rgb[None]) * view.valid).numpy()[0])
    return np.stack(found)


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean, over the images of a class, of the precision among the images that score at least as high."""
    present = labels[np.argsort(-scores, kind="stable")] > 0
    precision = present.cumsum() / np.arange(1, len(present) + 1)
    return float(precision[present].mean()) if present.any() else float("nan")


def painted(split: Split, saliency: Path, label_of: Callable[[int], int]) -> Callable[[str], np.ndarray]:
    """A function of an id: its salient pixels have the label 1 + `label_of` the image's index, all others 0."""
    index = {name: i for i, name in enumerate(split.ids)}

    def paint(name: str) -> np.ndarray:
        salient = read_mask(saliency / f"{name}.png", image_size(split.image(name))) > 0
        return np.where(salient, 1 + label_of(index[name]), 0).astype(np.uint8)

    return paint


def labellings(run: Run, split: Split, scores: np.ndarray) -> dict[str, tuple[str, Callable[[str], np.ndarray]]]:
    """Name -> the painting it is compared with, and the labels of an image."""
    saliency, folder = run.experiment.data.saliency, run.folder / split.name
    training = run.dataset.split(run.experiment.data.split)
    commonest = int(training.labels.sum(0).argmax())
    first = split.labels.argmax(1)

    def known(name: str) -> np.ndarray:
        probabilities = read_probabilities(folder / "probabilities" / f"{name}.npz")
        return of_known_classes(probabilities, split.labels[split.ids.index(name)])

    found = {
        "all background": ("", lambda name: np.zeros(image_size(split.image(name)), np.uint8)),
        "saliency x the commonest class": ("", painted(split, saliency, lambda i: commonest)),
        BLIND: ("", painted(split, saliency, lambda i: int(scores[i].argmax()))),
        "prediction": (BLIND, lambda name: read_mask(folder / "masks" / f"{name}.png")),
        "prediction, without CRF": (BLIND, lambda name: read_mask(folder / "masks_without_crf" / f"{name}.png")),
        KNOWING: ("", painted(split, saliency, lambda i: int(first[i]))),
        "pseudo labels": (KNOWING, lambda name: read_mask(run.pseudo_labels(split.name) / f"{name}.png")),
        "prediction with the classes known, without CRF": (KNOWING, known),
    }
    if not (folder / "probabilities").is_dir():  # a first phase alone
        found = {name: value for name, value in found.items() if not name.startswith("prediction")}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="with pseudo labels and, after both phases, masks"
    )
    parser.add_argument("--split", default="val")
    parser.add_argument("--name", required=True, help="of the files")
    options = parser.parse_args()
    runs = [Run(folder) for folder in options.runs]
    split, classes = runs[0].dataset.split(options.split), runs[0].dataset.classes
    scores, groups = [class_scores(run, split) for run in runs], groups_of(split)
    found = [labellings(run, split, of_run) for run, of_run in zip(runs, scores, strict=True)]
    about = {"runs": " ".join(run.folder.name for run in runs), "split": options.split}
    images = " ".join(f"{group}: {chosen.sum()}" for group, chosen in groups.items())
    counts, rows = {}, []
    for name, (reference, _) in found[0].items():
        counts[name] = [counts_of(split, len(classes), of_run[name][1]) for of_run in found]
        knows = "yes" if KNOWING in (name, reference) else "no"
        row = {"labels": name, "classes known": knows, **columns(counts[name], counts.get(reference), groups)}
        row["of each run"] = " ".join(f"{miou(of_run.sum(0)):.1f}" for of_run in counts[name])
        rows.append({**row, "compared with": reference, **about, "images": images})
    report_table(f"painting-{options.name}", rows)

    present = [c for c in range(len(classes)) if split.labels[:, c].any()]
    precisions = [
        100 * np.mean([average_precision(of_run[:, c], split.labels[:, c]) for of_run in scores]) for c in present
    ]
    named = [*((classes[c], int(split.labels[:, c].sum())) for c in present), ("mean", len(split))]
    rows = [
        {"class": name, "images": count, "average precision": f"{value:.1f}", **about}
        for (name, count), value in zip(named, [*precisions, np.mean(precisions)], strict=True)
    ]
    report_table(f"classifier-{options.name}", rows)


if __name__ == "__main__":
    main()
