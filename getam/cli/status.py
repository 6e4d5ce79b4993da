"""`getam status`: which runs are finished, running, stopped or stale."""

import argparse
from datetime import timedelta
from pathlib import Path

from getam.cli.options import HelpFormatter
from getam.evaluation.status import Outputs, Training, statuses


def add(commands) -> None:
    """Adds `status` to the commands."""
    parser = commands.add_parser(
        "status",
        help="what runs, what is finished, and what is stale and why, from the files of the results",
        description="Prints the state of every first phase and run below a folder of results: steps, loss, time left, "
        "files of each split, and what has changed since they were made. Nothing is written.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"), help="folder with experiments/")
    parser.add_argument("--data", action="store_true", help="compare the training data too, which reads all its maps")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    identity = None
    if options.data:
        from getam.training.launch import identity_of as identity
    for training, outputs in statuses(options.results, identity):
        print(f"{training.name:<32} {training.state:<9} {_progress(training)}")
        for found in outputs:
            print(f"  {found.split + ' ' + found.kind:<30} {_files(found)}")


def _progress(training: Training) -> str:
    if training.problem:
        return " ".join(training.problem.split())
    parts = [f"{training.steps:,}{'' if training.total is None else f' of {training.total:,}'} steps"]
    if training.state != "finished" and training.phase:
        parts.append(f"{training.phase} phase")
    if training.loss is not None:
        parts.append(f"loss {training.loss:.4g}")
    if training.seconds_left is not None:
        parts.append(f"{'at least ' if training.at_least else ''}{_clock(training.seconds_left)} left")
    if training.age is not None:
        parts.append(f"last row {_clock(training.age)} ago")
    return ", ".join(parts) + _reasons(training.stale, "trained")


def _files(found: Outputs) -> str:
    state = "complete" if found.complete else "unfinished" if found.seconds_left is None else "being written"
    parts = [f"{state:<13} {found.done:,}{'' if found.total is None else f' of {found.total:,}'} files"]
    if found.seconds_left is not None:
        parts.append(f"{_clock(found.seconds_left)} left")
    if found.miou is not None:
        parts.append(f"mIoU {found.miou:.1f}")
    return ", ".join(parts) + _reasons(found.stale, "made")


def _reasons(names: list[str], verb: str) -> str:
    return f"; stale: {verb} with other {' and '.join(names)}" if names else ""


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
