"""`getam predict`: the probabilities of a split's images."""

from functools import partial

from getam.cli.options import HelpFormatter, add_device, add_network_job, add_run, over_splits


def add(commands) -> None:
    """Adds `predict` to the commands."""
    parser = commands.add_parser(
        "predict",
        help="probabilities of a split's images, at several scales",
        description="Writes RUN/<split>/probabilities/<id>.npz; an interrupted job resumes with the missing images.",
        formatter_class=HelpFormatter,
    )
    add_run(parser)
    add_network_job(parser)
    add_device(parser)
    parser.set_defaults(run=partial(over_splits, verb="predict"))
