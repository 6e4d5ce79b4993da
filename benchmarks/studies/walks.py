"""How many files of the package a value passes through: what a reader opens to follow it.

    python -m benchmarks.studies.walks

Three walks, on a few drawn images and a network that trains for seconds:

    image id      from `getam prepare` to `getam score`: functions that are handed the id of one image, or a path of it
    settings      from the YAML file of an experiment to the trained network: functions that are handed settings
    pseudo label  one joint step: every function that runs between the batch and its losses

A file counts where one of its functions is called with the value. Writes results/walks.csv.
"""

import argparse
import contextlib
import csv
import dataclasses
import io
import json
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

import getam
from benchmarks.measure import RESULTS
from getam.cli.command import main as command
from getam.config.backbone_specs import BackboneSpec
from getam.config.recipe import Recipe
from getam.training.phases import JointPhase

PACKAGE = Path(getam.__file__).parent


class Walk:
    """Notes the package's files, in order, whose functions are called with a value that `wanted` accepts."""

    def __init__(self, wanted: Callable[[object], bool]):
        self._wanted = wanted
        self.files: list[str] = []

    def __call__(self, frame, event: str, argument: object) -> None:
        path, code = Path(frame.f_code.co_filename), frame.f_code
        if event != "call" or not path.is_relative_to(PACKAGE):
            return
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(self._holds(frame.f_locals.get(name)) for name in arguments):
            self.files.append(path.relative_to(PACKAGE).as_posix())

    def _holds(self, value: object, depth: int = 0) -> bool:
        if self._wanted(value):
            return True
        if depth == 2:
            return False
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = [getattr(value, field.name) for field in dataclasses.fields(value)]
        short = isinstance(value, tuple | list | set | frozenset) and len(value) < 200
        return short and any(self._holds(part, depth + 1) for part in value)

    @contextlib.contextmanager
    def on(self):
        """Takes notes inside the block, in every thread that starts there."""
        sys.setprofile(self)
        threading.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


def run(*arguments: object) -> None:
    """One `getam` command, without its output."""
    with contextlib.redirect_stdout(io.StringIO()):
        if status := command([str(argument) for argument in arguments]):
            sys.exit(status)


def chain(folder: Path) -> None:
    """From drawn images to a score."""
    dataset, saliency = folder / "shapes", folder / "saliency"
    run(
        *("prepare", "shapes", "--side", 32, "--train", 8, "--val", 4, "--test", 2),
        *("--workers", 1, "--output", dataset),
    )
    run(
        *("saliency", dataset, "--splits", "train", "val", "--source", "border"),
        *("--workers", 1, "--output", saliency),
    )
    train(folder)
    run("predict", folder / "run", "--split", "val", "--device", "cpu", "--workers", 0)
    run("refine", folder / "run", "--split", "val", "--workers", 1)
    run("score", folder / "run", "--split", "val", "--workers", 1)


def train(folder: Path, name: str = "run") -> None:
    """A training of a few steps."""
    settings = {
        "name": "walk",
        "data": {"dataset": str(folder / "shapes"), "saliency": str(folder / "saliency"), "split": "train"},
        "network": {
            "backbone": "vit_micro_hybrid",
            "pretrained": False,
            "classifier": "class_token",
            "decoder_width": 16,
        },
        "maps": {"dilations": [1, 2], "iterations": 2},
        "training": {"crop": 32, "epochs": 2, "optimiser": "adamw", "weight_decay": 0.01, "rate": 0.001},
        "inference": {"sizes": [32]},
    }
    (folder / "experiment.yaml").write_text(json.dumps(settings))
    run("train", folder / "experiment.yaml", "--device", "cpu", "--workers", 0, "--output", folder / name)


def walk_of_an_image(folder: Path) -> Walk:
    """All commands, following the first image of val."""
    name = "val_00000"

    def wanted(value: object) -> bool:
        return value == name if isinstance(value, str) else isinstance(value, Path) and value.stem == name

    walk = Walk(wanted)
    with walk.on():
        chain(folder)
    return walk


def walk_of_settings(folder: Path) -> Walk:
    """One training, following its settings."""
    file = folder / "experiment.yaml"
    walk = Walk(
        lambda value: (
            isinstance(value, BaseModel | Recipe | BackboneSpec) or (isinstance(value, Path) and value == file)
        )
    )
    with walk.on():
        train(folder, "again")
    return walk


def walk_of_a_pseudo_label(folder: Path) -> Walk:
    """The first joint step of one training."""
    walk, forward = Walk(lambda value: True), JointPhase.forward

    def first(*arguments):
        JointPhase.forward = forward
        with walk.on():
            return forward(*arguments)

    JointPhase.forward = first
    train(folder, "once_more")
    return walk


def main() -> None:
    """Prints and writes the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, follow in (
            ("image id", walk_of_an_image),
            ("settings", walk_of_settings),
            ("pseudo label", walk_of_a_pseudo_label),
        ):
            files = list(dict.fromkeys(follow(Path(folder)).files))
            rooms = dict.fromkeys(file.rpartition("/")[0] for file in files)
            rows.append({"walk": name, "files": len(files), "rooms": len(rooms), "in this order": " ".join(files)})
            print(f"{name}: {len(files)} files in {len(rooms)} rooms: {', '.join(files)}")
    with (RESULTS / "walks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
