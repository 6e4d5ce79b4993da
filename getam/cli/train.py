"""`getam train`: one experiment, from its settings to its weights."""

import argparse
from pathlib import Path

from getam.cli.options import HelpFormatter, add_device, add_settings, experiment_source, not_negative
from getam.config.experiment_file import load_experiment


def add(commands) -> None:
    """Adds `train` to the commands."""
    parser = commands.add_parser(
        "train",
        help="train the network of one experiment",
        description="Trains, or resumes an interrupted training; on several GPUs under torchrun: "
        "`torchrun --nproc-per-node 4 -m getam.cli train ...`.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "experiment",
        type=experiment_source,
        help="YAML file, or settings in braces: data, network, and settings that differ from the defaults",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="folder of the run")
    phases = parser.add_mutually_exclusive_group()
    phases.add_argument(
        "--first-phase",
        type=Path,
        metavar="FOLDER",
        help="continue from the first phase in FOLDER, written by --only-first-phase; the result is the same",
    )
    phases.add_argument(
        "--only-first-phase",
        action="store_true",
        help="train the classification phase alone; experiments with the same first phase can share it",
    )
    add_settings(parser)
    add_device(parser)
    parser.add_argument(
        "--again",
        nargs="?",
        const="",
        metavar="REQUEST",
        help="discard what this training has left and train from the beginning; with the same REQUEST again, resume",
    )
    parser.add_argument("--workers", type=not_negative, help="processes that prepare images; 0: this one does")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from getam.training.launch import train, train_first_phase

    experiment = load_experiment(options.experiment, dict(options.set))
    where = (options.output, options.device, options.workers)
    if options.only_first_phase:
        print(train_first_phase(experiment, *where, options.again))
    else:
        print(train(experiment, *where, options.first_phase, options.again))
