"""`getam train`: one experiment, from its settings to its weights."""

import argparse
from pathlib import Path

import yaml

from getam.commands.options import HelpFormatter, add_device
from getam.experiment import load_experiment


def add(commands) -> None:
    """Adds `train` to the commands."""
    parser = commands.add_parser(
        "train",
        help="train the network of one experiment",
        description="Trains, or goes on with a training that was interrupted; on several GPUs under torchrun: "
        "`torchrun --nproc-per-node 4 -m getam.cli train ...`.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("experiment", type=Path, help="YAML file: data, network, and what deviates from the defaults")
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--set",
        type=_setting,
        nargs="+",
        default=(),
        metavar="KEY=VALUE",
        help="settings that go before those of the file, such as training.epochs=5 or seed=1",
    )
    add_device(parser)
    parser.add_argument("--workers", type=_not_negative, help="processes that prepare images; 0: none beside this one")
    parser.set_defaults(run=_run)


def _setting(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected key=value, got {text!r}")
    return key, yaml.safe_load(value)


def _not_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected at least 0, got {text}")
    return value


def _run(options: argparse.Namespace) -> None:
    from getam.training import train  # TensorBoard takes its time, and only this verb needs it

    experiment = load_experiment(options.experiment, dict(options.set))
    print(train(experiment, options.output, options.device, options.workers))
