"""`getam convert`: turns one of the authors' released checkpoints into a run, to predict and score like any other."""

import argparse
from pathlib import Path

from getam.cli.options import HelpFormatter, add_settings, experiment_source
from getam.config.experiment import PROVENANCE, WEIGHTS
from getam.config.experiment_file import load_experiment, write_experiment
from getam.data.dataset import open_dataset
from getam.models.released import load_released_checkpoint
from getam.models.saving import save_network
from getam.utils.files import write_json
from getam.utils.provenance import environment, file_digest


def add(commands) -> None:
    """Adds `convert` to the commands."""
    parser = commands.add_parser(
        "convert",
        help="turn one of the authors' released checkpoints into a run",
        description="Writes RUN/weights.safetensors from a released checkpoint, for `predict`, `refine` and `score`.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="file that `getam fetch` has downloaded")
    parser.add_argument(
        "experiment",
        type=experiment_source,
        help="YAML file, or settings in braces, of an experiment with the same backbone",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="folder of the run")
    add_settings(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    experiment = load_experiment(options.experiment, dict(options.set))
    classes = open_dataset(experiment.data.dataset).classes
    arguments = {**experiment.network_arguments(), "weight_standardisation": "released"}
    network = load_released_checkpoint(options.checkpoint, experiment.network.name, len(classes))
    write_experiment(options.output, experiment)
    path = options.output / WEIGHTS
    made_from = {"released": file_digest(options.checkpoint)}
    save_network(path, network, classes, made_from, **arguments)
    described = {"experiment": experiment.name, "made_from": made_from, **environment()}
    write_json(options.output / PROVENANCE, described)
    print(path)
