"""Raw maps of every activation method on one trained network, its classes known, at the best threshold.

    python -m benchmarks.studies.run_maps RUN... --sizes 160 224

`getam maps` does the same for a run's own method and crop. Here all methods and sizes use the same network, so the
differences are those of the methods, not of training with them.

Writes benchmarks/results/run_maps-<data set>.csv.
"""

import argparse
from pathlib import Path

import torch

from benchmarks.measure import RESULTS, print_table, write_table
from getam.config.choices import METHODS
from getam.evaluation.map_scores import score_maps
from getam.evaluation.run import Run
from getam.utils.progress import progress


def score(run: Run, split: str, size: int, method: str) -> dict[str, str]:
    """A line of the table."""
    changes = {"maps": {"method": method}, "training": {"crop": size}}
    parts = {name: getattr(run.experiment, name).model_copy(update=change) for name, change in changes.items()}
    experiment = run.experiment.model_copy(update=parts)
    network = run.load_network(torch.device("cpu"))
    found = score_maps(network, run.dataset.split(split), run.dataset.classes, experiment, batch=8)
    best = found.best()
    return {
        "method": method,
        "size": size,
        "best mIoU": f"{100 * found.scores[best].miou():.2f}",
        "threshold": f"{found.thresholds[best]:.3f}",
        "run": run.folder.name,
        "split": split,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder that `getam train` has written")
    parser.add_argument("--split", default="val")
    parser.add_argument("--sizes", type=int, nargs="+", required=True, help="long sides of the view, multiples of 32")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD")
    options = parser.parse_args()
    runs = [Run(folder) for folder in options.runs]
    wanted = [(run, size, method) for run in runs for size in options.sizes for method in options.methods]
    rows = [score(run, options.split, size, method) for run, size, method in progress(wanted, unit="score")]
    print_table(rows)
    table = RESULTS / f"run_maps-{runs[0].dataset.name}.csv"
    write_table(table, rows)
    print(f"written to {table}")


if __name__ == "__main__":
    main()
