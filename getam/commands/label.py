"""`getam label`: the pseudo labels of a split, and what they are worth."""

import argparse

from getam.commands.options import HelpFormatter, add_device, add_network_job, add_run, follow
from getam.replicas import choose_device


def add(commands) -> None:
    """Adds `label` to the commands."""
    parser = commands.add_parser(
        "label",
        help="pseudo labels of a split, from maps and image labels",
        description="Writes RUN/<split>/pseudo_labels/<id>.png: what the trained network would be taught by its own "
        "maps. `getam score RUN --split S --what pseudo_labels` says what they are worth.",
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
        follow(run.label(split, device, options.shard, options.batch, options.workers), total, f"label {split}")
