"""`getam convert`: one of the authors' released checkpoints as a run, to be predicted and scored like any other."""

import argparse
from pathlib import Path

from getam.checkpoints import load_released_checkpoint, save_network
from getam.commands.options import HelpFormatter, add_settings, experiment_source
from getam.datasets.prepared import open_dataset
from getam.experiment import PROVENANCE, WEIGHTS, load_experiment, write_experiment
from getam.files import write_json
from getam.provenance import file_digest, surroundings


def add(commands) -> None:
    """Adds `convert` to the commands."""
    parser = commands.add_parser(
        "convert",
        help="take one of the authors' released checkpoints as a run's weights",
        description="Writes RUN/weights.safetensors from a released checkpoint, for `predict`, `refine` and `score`.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="file that `getam fetch` has brought")
    parser.add_argument(
        "experiment",
        type=experiment_source,
        help="YAML file, or settings in braces, of an experiment with the same backbone",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="folder of the run")
    add_settings(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from getam.training import network_arguments

    experiment = load_experiment(options.experiment, dict(options.set))
    classes = open_dataset(experiment.data.dataset).classes
    arguments = {**network_arguments(experiment), "weight_standardisation": "released"}
    network = load_released_checkpoint(options.checkpoint, experiment.network.backbone, len(classes))
    write_experiment(options.output, experiment)
    path = options.output / WEIGHTS
    made_from = {"released": file_digest(options.checkpoint)}
    save_network(path, network, classes, made_from, **arguments)
    described = {"experiment": experiment.name, "made_from": made_from, **surroundings()}
    write_json(options.output / PROVENANCE, described)
    print(path)
