"""The network of a first phase as a run of its own, for the studies of maps and labels, which need no decoder.

    python -m benchmarks.studies.phase_as_run PHASE EXPERIMENT.yaml RUN

PHASE is a folder that `getam train --only-first-phase` has written, EXPERIMENT.yaml an experiment that begins with it.
"""

import argparse
from pathlib import Path

from getam.config.experiment import PROVENANCE, WEIGHTS
from getam.config.experiment_file import load_experiment, write_experiment
from getam.config.first_phase import FIRST_PHASE
from getam.data.dataset import open_dataset
from getam.models.network import build_model
from getam.models.saving import save_network
from getam.training.checkpoints import read_checkpoint
from getam.utils.files import read_json, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("phase", "experiment", "run"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    experiment, provenance = load_experiment(options.experiment), read_json(options.phase / PROVENANCE)
    state = read_checkpoint(options.phase / FIRST_PHASE, provenance["made_from"])
    classes = open_dataset(experiment.data.dataset).classes
    arguments = experiment.network_arguments()
    network = build_model(num_classes=len(classes), pretrained=False, **arguments)
    network.load_state_dict(state["network"])
    save_network(options.run / WEIGHTS, network, classes, provenance["made_from"], **arguments)
    write_experiment(options.run, experiment)
    write_json(options.run / PROVENANCE, provenance)


if __name__ == "__main__":
    main()
