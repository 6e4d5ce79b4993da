"""Seconds of each stage from a trained network to its scores, for one or several checkouts of this repository.

    python -m benchmarks.speed.stages --split val now=.:results/experiments/RUN before=../older:../older/RUN

Each argument is NAME=CHECKOUT:RUN; only experiment.yaml and weights.safetensors of RUN are used, as copies.
The commands are those of the workflow, each in a process of its own, imports included; the checkouts take turns, stage
by stage.

Writes benchmarks/results/stages-<device>.csv.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import print_table, write_results
from getam.utils.hardware import device_name

STAGES = {
    "predict": ("predict", "--batch", "8"),
    "CRF": ("refine", "--workers", "2"),
    "masks without CRF": ("refine", "--workers", "2", "--without-crf"),
    "pseudo labels": ("label", "--batch", "8"),
    "score": ("score", "--workers", "2"),
    "score without CRF": ("score", "--workers", "2", "--what", "masks_without_crf"),
    "score pseudo labels": ("score", "--workers", "2", "--what", "pseudo_labels"),
}


def seconds(stage: str, checkout: Path, run: Path, split: str) -> float:
    """Of one stage, by the code of a checkout."""
    verb, *options = STAGES[stage]
    command = [sys.executable, "-m", "getam.cli", verb, str(run), "--split", split, *options]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    # Not in a checkout: `-m` would look there first.
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=run.anchor, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} with the code of {checkout}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def copied(run: Path, folder: Path) -> Path:
    """A copy of a run with its network alone; relative paths in its settings are relative to the current folder."""
    folder.mkdir(parents=True)
    settings = (run / "experiment.yaml").read_text()
    (folder / "experiment.yaml").write_text(settings.replace(": resources/", f": {Path.cwd()}/resources/"))
    shutil.copy(run / "weights.safetensors", folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="+", metavar="NAME=CHECKOUT:RUN")
    parser.add_argument("--split", default="val")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    variants = {}
    for variant in options.variants:
        name, _, places = variant.partition("=")
        variants[name] = [Path(place).resolve() for place in places.split(":")]
    taken = {name: {stage: [] for stage in STAGES} for name in variants}
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            runs = {name: copied(run, Path(folder) / name) for name, (_, run) in variants.items()}
            for stage in STAGES:
                for name, (checkout, _) in variants.items():
                    taken[name][stage].append(seconds(stage, checkout, runs[name], options.split))
        print(f"round {number + 1} of {options.rounds} finished", flush=True)
    rows = []
    for name, stages in taken.items():
        fastest = {stage: min(values) for stage, values in stages.items()}
        medians = {stage: statistics.median(values) for stage, values in stages.items()}
        fastest["all"], medians["all"] = sum(fastest.values()), sum(medians.values())
        for stage in (*STAGES, "all"):
            row = {"stage": stage, "code": name, "fastest": f"{fastest[stage]:.1f}", "median": f"{medians[stage]:.1f}"}
            rows.append({**row, "split": options.split, "rounds": options.rounds, "device": device_name("cpu")})
    print_table(rows)
    print(f"written to {write_results('stages', device_name('cpu'), rows)}")


if __name__ == "__main__":
    main()
