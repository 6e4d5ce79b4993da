"""Training one experiment: both phases, from its settings to weights.safetensors (docs/method.md section 5).

A step's chance (dropout, views, order) depends on the seed and the step alone, so that a run that is taken up again
from a checkpoint goes on as if nothing had happened: bit for bit on the CPU.
"""

import logging
from pathlib import Path

from getam.config.experiment import WEIGHTS, Experiment
from getam.config.experiment_file import write_experiment
from getam.config.first_phase import FIRST_PHASE, first_phase_of
from getam.data.dataset import open_dataset
from getam.models.runtime import tf32_allowed
from getam.training.checkpoints import FinishedTraining
from getam.training.distributed import exclusive, replica
from getam.training.trainer import Trainer, explaining_lack_of_memory, identity_of

_log = logging.getLogger(__name__)


def train(
    experiment: Experiment,
    folder: Path,
    device: str = "auto",
    workers: int | None = None,
    first_phase: Path | None = None,
) -> Path:
    """Trains a network, or goes on with a training that was interrupted, and returns the path of its weights.

    Writes into `folder`: experiment.yaml, history.csv, sheets/, tensorboard/, checkpoints/ while it lasts, and in the
    end provenance.json and weights.safetensors. Where these weights are there already, nothing is done. A checkpoint is
    taken up if settings, data and code are those that it was made with; else training starts afresh and the log says
    why.

    Args:
        device: `auto`, `cpu` or `cuda`; under torchrun every process takes a GPU of its own.
        workers: processes that prepare images; None: as many as fit the machine.
        first_phase: folder that `train_first_phase` has written for this experiment, or for one that shares its first
            phase: training goes on from there, with the same result. None: both phases are trained here.

    Raises:
        FileNotFoundError: an image or a saliency map is missing; before anything is trained.
        ValueError: settings that do not fit the data or the machine; or the first phase is not this experiment's.
        NotFinite: a loss became NaN or infinite; the state before that step is saved.
        Interrupted: by SIGTERM or Ctrl-C; the state is saved.
        MemoryError: says which setting to lower.
    """
    return _train(experiment, folder, device, workers, WEIGHTS, first_phase)


def train_first_phase(experiment: Experiment, folder: Path, device: str = "auto", workers: int | None = None) -> Path:
    """Trains the first phase alone and returns the path of its state, as `train` does with both.

    Experiments with the same `getam.config.first_phase.first_phase_of` can go on from it.

    Raises:
        ValueError: also where the experiment has no first phase.
    """
    phase = first_phase_of(experiment)
    if phase is None:
        raise ValueError("training.classification is 0: there is no first phase")
    return _train(phase, folder, device, workers, FIRST_PHASE, None)


def _train(
    experiment: Experiment,
    folder: Path,
    device: str,
    workers: int | None,
    result: str,
    first_phase: Path | None,
) -> Path:
    dataset = open_dataset(experiment.data.dataset)
    split = dataset.split(experiment.data.split)
    with replica(device) as this:
        identity = identity_of(experiment, dataset, split)
        finished = FinishedTraining(folder, result, identity)
        exactly = tf32_allowed(experiment.training.precision)
        with exclusive(folder, this), explaining_lack_of_memory(experiment.training), exactly:
            if finished.exists(restore=this.is_main):
                _log.info("%s is there already, from these settings, data and code", finished.result)
                return finished.result
            trainer = Trainer(experiment, dataset, split, finished, identity, this, workers, first_phase)
            if this.is_main:
                finished.forget()
                write_experiment(folder, experiment)
            trainer.run()
            if this.is_main:
                trainer.finish()
    return finished.result
