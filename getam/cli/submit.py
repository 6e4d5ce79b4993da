"""`getam submit`: the archive for the VOC evaluation server."""

import argparse
from pathlib import Path

from getam.cli.options import HelpFormatter
from getam.evaluation.submission import write_submission


def add(commands) -> None:
    """Adds `submit` to the commands."""
    parser = commands.add_parser(
        "submit",
        help="pack the archive for the VOC evaluation server",
        description="Checks RUN/<split>/masks against the server's rules and packs them.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder that `getam train` has written")
    parser.add_argument("--split", default="test", help="of the data set")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=".tar.gz to write")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from getam.evaluation.run import Run

    run = Run(options.folder)
    run.check_current(run.masks(options.split))
    count = write_submission(run.dataset.split(options.split), run.masks(options.split), options.output)
    print(f"{count} masks in {options.output}")
