"""`getam check`: reads every file of a prepared data set and prints statistics and problems."""

import argparse
from pathlib import Path

from getam.cli.options import HelpFormatter, add_workers
from getam.data.dataset import DataSet, open_dataset
from getam.data.inspection import SplitReport, check_split
from getam.utils.checks import shortened

_MOST_SHOWN = 20


def add(commands) -> None:
    """Adds `check` to the commands."""
    parser = commands.add_parser(
        "check",
        help="read every file of a prepared data set; print statistics and problems",
        description="Decodes every image, mask and saliency map; compares sizes, and labels with masks.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("dataset", type=Path, help="folder that `getam prepare` has written")
    parser.add_argument("--splits", nargs="+", help="only these splits (default: all)")
    parser.add_argument("--saliency", type=Path, help="folder of <id>.png that `getam saliency` has written")
    add_workers(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    dataset = open_dataset(options.dataset)
    facts = {
        name: check_split(dataset, name, options.saliency, options.workers) for name in options.splits or dataset.splits
    }
    _print(dataset, facts)
    problems = [problem for found in facts.values() for problem in found.problems]
    if problems:
        shown = shortened(problems, _MOST_SHOWN, "\n  ")
        raise ValueError(f"{len(problems)} images cannot be used:\n  {shown}")


def _print(dataset: DataSet, facts: dict[str, SplitReport]) -> None:
    width = max(map(len, (*dataset.classes, "labelled, not in the mask")))
    columns = [max(len(name), 9) for name in facts]

    def line(title: str, values: list) -> None:
        cells = (f"{value:>{column}}" for value, column in zip(values, columns, strict=True))
        print(f"{title:<{width}}  {'  '.join(cells)}")

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    line(dataset.name, list(facts))
    line("images", [found.images for found in facts.values()])
    line("megapixels", [f"{found.pixels / 1e6:.1f}" for found in facts.values()])
    line("unknown pixels", [share(found.unknown) for found in facts.values()])
    line("salient pixels", [share(found.salient) for found in facts.values()])
    line("labelled, not in the mask", [found.only_labels for found in facts.values()])
    line("in the mask, not labelled", [found.only_masks for found in facts.values()])
    for i, name in enumerate(dataset.classes):
        line(name, [found.per_class[i] for found in facts.values()])
