"""Raw maps of every activation method on one trained network, its classes known, at the best threshold.

    python -m benchmarks.studies.run_maps RUN... --sizes 160 224 --name voc6

`getam maps` does the same for a run's own method and crop. Here all methods and sizes use the same network, so the
differences are those of the methods, not of training with them. Images of one class and of several are scored apart,
too, at the same threshold; differences from the first method have an interval over the images
(benchmarks/studies/paired.py).

Writes benchmarks/results/run_maps-<name>.csv.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import report_table
from benchmarks.studies.paired import columns, groups_of, miou
from getam.config.choices import METHODS
from getam.data.dataset import Split
from getam.data.hold_out import subset
from getam.evaluation.map_scores import THRESHOLDS, score_maps
from getam.evaluation.run import Run
from getam.utils.progress import progress


def thresholded(run: Run, split: Split, size: int, method: str) -> np.ndarray:
    """Pixels of each image by threshold, true label and label of the maps, int64 (M, T, C + 1, C + 1)."""
    changes = {"maps": {"method": method}, "training": {"crop": size}}
    parts = {name: getattr(run.experiment, name).model_copy(update=change) for name, change in changes.items()}
    experiment = run.experiment.model_copy(update=parts)
    network, found = run.load_network(torch.device("cpu")), []
    for name in split.ids:
        scores = score_maps(network, subset(split, name, {name}), run.dataset.classes, experiment, batch=1)
        found.append(np.stack([score.matrix.counts for score in scores.scores]))
    return np.stack(found)


def best_threshold(counts: np.ndarray) -> int:
    """The index of the threshold that is best for all images together, of counts that `thresholded` returns."""
    return int(miou(counts.sum(0)).argmax())


def rows_of(run: Run, split: Split, size: int, methods: Sequence[str]) -> Iterator[dict[str, str]]:
    """A line of the table for each method; the first is the reference."""
    groups, reference = groups_of(split), None
    for method in methods:
        counts = thresholded(run, split, size, method)
        best = best_threshold(counts)
        row = columns([counts[:, best]], None if reference is None else [reference], groups)
        reference = counts[:, best] if reference is None else reference
        about = {"threshold": f"{THRESHOLDS[best]:.3f}", "run": run.folder.name, "split": split.name}
        yield {"method": method, "size": size, **row, **about}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder that `getam train` has written")
    parser.add_argument("--split", default="val")
    parser.add_argument("--sizes", type=int, nargs="+", required=True, help="long sides of the view, multiples of 32")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD")
    parser.add_argument("--name", required=True, help="of the file")
    options = parser.parse_args()
    runs = [Run(folder) for folder in options.runs]
    wanted = [(run, size) for run in runs for size in options.sizes]
    rows = [
        row
        for run, size in progress(wanted, unit="size")
        for row in rows_of(run, run.dataset.split(options.split), size, options.methods)
    ]
    report_table(f"run_maps-{options.name}", rows)


if __name__ == "__main__":
    main()
