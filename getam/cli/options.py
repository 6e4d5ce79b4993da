"""Options that several verbs share."""

import argparse
from collections.abc import Iterable
from pathlib import Path

import yaml

from getam.config.experiment import EXPERIMENT, PROVENANCE, Experiment, training_digest
from getam.config.experiment_file import load_experiment, parse_yaml, write_experiment
from getam.evaluation.run import Shard
from getam.utils.files import read_json
from getam.utils.hardware import check_device
from getam.utils.parallel import available_cores
from getam.utils.progress import progress


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_none = action.default is None or action.default is False or action.default == ()
        return action.help if has_none else super()._get_help_string(action)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """--workers: number of processes."""
    parser.add_argument(
        "--workers", type=positive, default=available_cores(), help="images at once, each in a process of its own"
    )


def add_device(parser: argparse.ArgumentParser, default: str = "auto") -> None:
    """--device: the device that the network, or the CRF, runs on."""
    parser.add_argument(
        "--device",
        type=_device,
        default=default,
        metavar="DEVICE",
        help="cpu; cuda: a GPU that no other process has taken, waiting for one if need be; auto: the same if there is "
        "a GPU, else the CPU; cuda:N: the GPU of this number, shared if it is taken",
    )


def _device(text: str) -> str:
    try:
        return check_device(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_run(parser: argparse.ArgumentParser) -> None:
    """RUN, as `folder`, and --split: the run and the splits that a step works on."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder that `getam train` has written")
    parser.add_argument("--split", nargs="+", required=True, help="splits of the data set")


def experiment_source(text: str) -> Path | dict:
    """The argument EXPERIMENT: a YAML file, or the settings themselves in braces."""
    if not text.lstrip().startswith("{"):
        return Path(text)
    return _parsed(text)


def _parsed(text: str) -> object:
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise argparse.ArgumentTypeError(f"not YAML: {' '.join(str(error).split())}") from error


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """--experiment: settings for a run's experiment.yaml."""
    parser.add_argument(
        "--experiment",
        type=experiment_source,
        metavar="EXPERIMENT",
        help="YAML file, or settings in braces, to replace the run's experiment.yaml; settings that the weights depend "
        "on must stay the same",
    )


def open_run(options: argparse.Namespace):
    """The run of the options `folder` and `experiment`.

    Raises:
        ValueError: the run's weights were trained with other settings than those of `experiment`.
    """
    from getam.evaluation.run import Run

    if options.experiment is not None:
        experiment = load_experiment(options.experiment)
        _check_trained_so(options.folder, experiment)
        path = options.folder / EXPERIMENT
        if not path.is_file() or path.read_text(encoding="utf-8") != experiment.as_yaml():
            write_experiment(options.folder, experiment)
    return Run(options.folder)


def _check_trained_so(folder: Path, experiment: Experiment) -> None:
    path = folder / PROVENANCE
    trained = read_json(path).get("made_from", {}).get("settings") if path.is_file() else None
    if trained is not None and trained != training_digest(experiment):
        raise ValueError(f"the weights in {folder} were trained with other settings than {experiment.name} has now")


def add_network_job(parser: argparse.ArgumentParser) -> None:
    """--shard, --batch and --workers of a job that runs the network on many images."""
    add_experiment(parser)
    add_shard(parser)
    add_reading(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """--batch and --workers: how many images are read and processed at once."""
    parser.add_argument("--batch", type=positive, default=4, help="images at once")
    parser.add_argument("--workers", type=not_negative, default=1, help="processes that read images; 0: none")


def add_shard(parser: argparse.ArgumentParser) -> None:
    """--shard: one of several jobs that share the images."""
    parser.add_argument(
        "--shard", type=_shard, default=Shard(), metavar="I/N", help="every N-th image, from the I-th: one of N jobs"
    )


def _shard(text: str) -> Shard:
    number, _, count = text.partition("/")
    try:
        return Shard(int(number), int(count))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected I/N such as 2/8, got {text!r}") from error


def add_settings(parser: argparse.ArgumentParser) -> None:
    """--set: settings of an experiment that override those of its file."""
    parser.add_argument(
        "--set",
        type=_setting,
        nargs="+",
        default=(),
        metavar="KEY=VALUE",
        help="settings that override those of the file, such as training.epochs=5 or seed=1",
    )


def _setting(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected key=value, got {text!r}")
    return key, _parsed(value)


def over_splits(options: argparse.Namespace, verb: str) -> None:
    """Calls `predict` or `label` of a run for each requested split."""
    from getam.utils.hardware import choose_device

    run, device = open_run(options), choose_device(options.device)
    for split in options.split:
        total = len(options.shard.of(run.dataset.split(split).ids))
        step = getattr(run, verb)
        follow(step(split, device, options.shard, options.batch, options.workers), total, f"{verb} {split}")


def follow(paths: Iterable[Path], total: int, what: str) -> None:
    """Runs a step to its end with a progress line, and prints where its files are."""
    folders = {path.parent for path in progress(paths, total=total, desc=what, unit="image")}
    print(f"{total} files in {', '.join(map(str, folders))}")


def not_negative(text: str) -> int:
    """The type of an argument that is a whole number from 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected at least 0, got {text}")
    return value


def positive(text: str) -> int:
    """The type of an argument that is a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return value
