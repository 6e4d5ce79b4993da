"""Networks trained on the labels of different activation methods, with several seeds, scored on an untouched split.

    python -m benchmarks.studies.methods EXPERIMENT.yaml --methods getam cam grad_cam --seeds 0 1 2 --split test

Every run is an ordinary one (`getam train`, `predict`, `refine`, `label`, `score`); finished steps are not repeated.
Writes benchmarks/results/methods-<data set>.csv, one row for each run.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.measure import RESULTS, print_table, write_table
from getam.evaluation.run import Run
from getam.evaluation.scores import read_summary
from getam.utils.files import read_json

_SCORES = {"mIoU": "iou", "without CRF": "iou_without_crf", "pseudo labels": "pseudo_label_iou"}


def run(options: argparse.Namespace, method: str, seed: int) -> dict[str, str]:
    """One training and its scores."""
    folder = options.runs / f"{method}-{seed}"
    settings = [f"maps.method={method}", f"seed={seed}", f"name={options.experiment.stem}_{method}_{seed}"]
    _getam("train", options.experiment, "--output", folder, "--set", *settings)
    split = ["--split", options.split]
    for step in (
        ["predict", folder, *split, "--batch", "32"],
        ["refine", folder, *split],
        ["label", folder, *split, "--batch", "32"],
        *(["score", folder, *split, "--what", what] for what in ("masks", "masks_without_crf", "pseudo_labels")),
    ):
        _getam(*step)
    scores = {name: read_summary(folder / options.split / f"{file}.csv")["mIoU"] for name, file in _SCORES.items()}
    made = read_json(folder / "provenance.json")
    return {
        "method": method,
        "seed": seed,
        **{name: f"{100 * score:.2f}" for name, score in scores.items()},
        "seconds of training": f"{made['seconds_of_the_last_session']:.0f}",
        "data set": Run(folder).dataset.name,
        "split": options.split,
        "device": made["device"],
    }


def _getam(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "getam.cli", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--methods", nargs="+", default=["getam", "grad_cam", "cam"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--split", default="test")
    parser.add_argument("--runs", type=Path, default=Path("results/methods"), help="folder for the runs")
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        for method in options.methods:
            rows.append(run(options, method, seed))
            table = RESULTS / f"methods-{rows[0]['data set']}.csv"
            write_table(table, rows)
    print_table(rows)
    for method in options.methods:
        scores = [float(row["mIoU"]) for row in rows if row["method"] == method]
        print(f"{method}: {np.mean(scores):.1f} +- {np.std(scores, ddof=min(1, len(scores) - 1)):.1f}")
    print(f"written to {table}")


if __name__ == "__main__":
    main()
