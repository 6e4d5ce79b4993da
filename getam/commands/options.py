"""Options that several verbs have."""

import argparse

from getam.parallel import available_cores
from getam.replicas import DEVICES


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Says the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_none = action.default is None or action.default is False or action.default == ()
        return action.help if has_none else super()._get_help_string(action)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """--workers: how many processes work at once."""
    parser.add_argument(
        "--workers", type=positive, default=available_cores(), help="images at once, each in a process of its own"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device: where the network runs."""
    parser.add_argument("--device", choices=DEVICES, default="auto", help="auto: a GPU where there is one")


def positive(text: str) -> int:
    """A whole number from 1, as an argument's type."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return value
