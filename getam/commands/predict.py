"""`getam predict`: the probabilities of a split's images."""

import argparse

from getam.commands.options import HelpFormatter, add_device, add_network_job, add_run, follow
from getam.replicas import choose_device


def add(commands) -> None:
    """Adds `predict` to the commands."""
    parser = commands.add_parser(
        "predict",
        help="probabilities of a split's images, at several scales",
        description="Writes RUN/<split>/probabilities/<id>.npz; an interrupted job goes on with what is missing.",
        formatter_class=HelpFormatter,
    )
    add_run(parser)
    add_network_job(parser)
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from getam.runs import Run

    run, device = Run(options.folder), choose_device(options.device)
    for split in options.split:
        total = len(options.shard.of(run.dataset.split(split).ids))
        paths = run.predict(split, device, options.shard, options.batch, options.workers)
        follow(paths, total, f"predict {split}")
