"""`getam label`: the pseudo labels of a split."""

from functools import partial

from getam.cli.options import HelpFormatter, add_device, add_network_job, add_run, over_splits


def add(commands) -> None:
    """Adds `label` to the commands."""
    parser = commands.add_parser(
        "label",
        help="pseudo labels of a split, from maps and image labels",
        description="Writes RUN/<split>/pseudo_labels/<id>.png: the labels that the trained network would learn from. "
        "`getam score RUN --split S --what pseudo_labels` scores them.",
        formatter_class=HelpFormatter,
    )
    add_run(parser)
    add_network_job(parser)
    add_device(parser)
    parser.set_defaults(run=partial(over_splits, verb="label"))
