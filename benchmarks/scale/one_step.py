"""Trains the network of the rehearsal for one step, on the first images of the training split.

    python -m benchmarks.scale.one_step voc

A training goes through its whole split; a data set of four images makes one step of it.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.scale.steps import experiment
from getam.constants import BASE
from getam.data.dataset import open_dataset
from getam.data.preparation import Part, write_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=("voc", "coco"))
    settings = experiment(parser.parse_args().data)
    dataset = open_dataset(settings["data"]["dataset"])
    split = dataset.split(settings["data"]["split"])
    few = settings["training"]["batch"]
    first = replace(split, ids=split.ids[:few], labels=split.labels[:few])
    settings["data"]["dataset"] = str(Path("resources/datasets") / f"{dataset.name}_first")
    write_dataset(Path(settings["data"]["dataset"]), dataset.name, dataset.classes, {BASE: Part([first], {})})
    run = Path("results/experiments") / settings["name"]
    command = [sys.executable, "-m", "getam.cli", "train", json.dumps(settings), "--output", str(run)]
    sys.exit(subprocess.run([*command, "--device", "cpu", "--workers", "0"], check=False).returncode)


if __name__ == "__main__":
    main()
