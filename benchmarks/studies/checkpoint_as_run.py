"""The network in a checkpoint as a run for the studies: of a first phase, or of a training that has not ended.

    python -m benchmarks.studies.checkpoint_as_run CHECKPOINT EXPERIMENT.yaml RUN

CHECKPOINT is first_phase.pt of a first phase, or a file in the folder `checkpoints` of a run; EXPERIMENT.yaml is the
experiment that it belongs to. The schedule of an unfinished training has not ended: its numbers are no result.
"""

import argparse
from pathlib import Path

from getam.config.experiment import WEIGHTS
from getam.config.experiment_file import load_experiment, write_experiment
from getam.data.dataset import open_dataset
from getam.models.network import build_model
from getam.models.saving import save_network
from getam.training.checkpoints import read_any_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("checkpoint", "experiment", "run"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    experiment, state = load_experiment(options.experiment), read_any_checkpoint(options.checkpoint)
    classes, arguments = open_dataset(experiment.data.dataset).classes, experiment.network_arguments()
    network = build_model(num_classes=len(classes), pretrained=False, **arguments)
    network.load_state_dict(state["network"])
    save_network(options.run / WEIGHTS, network, classes, {**state["identity"], "step": state["step"]}, **arguments)
    write_experiment(options.run, experiment)
    print(f"the network after step {state['step']} is in {options.run}")


if __name__ == "__main__":
    main()
