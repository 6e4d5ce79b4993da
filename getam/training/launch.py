"""Trains one experiment, from its settings to weights.safetensors (docs/explanation/method.md section 5).

The random numbers of a step (dropout, views, order) depend on the seed and the step alone, so that a run resumed from
a checkpoint ends with the bits of an uninterrupted one (on the CPU).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from getam.config.experiment import WEIGHTS, Experiment, training_digest
from getam.config.experiment_file import write_experiment
from getam.config.first_phase import FIRST_PHASE, first_phase_of
from getam.config.training import Training
from getam.data.dataset import DataSet, Split, open_dataset
from getam.data.digests import labels_digest, training_data_digests
from getam.models.runtime import tf32_allowed
from getam.training.checkpoints import PREVIOUS, FinishedTraining, discard_training
from getam.training.distributed import exclusive, replica
from getam.training.trainer import FirstPhase, Trainer
from getam.utils import provenance

_log = logging.getLogger(__name__)


def train(
    experiment: Experiment,
    folder: Path,
    device: str = "auto",
    workers: int | None = None,
    first_phase: Path | None = None,
    again: str | None = None,
) -> Path:
    """Trains a network, or resumes an interrupted training, and returns the path of its weights.

    Writes into `folder`: experiment.yaml, history.csv, sheets/, tensorboard/, checkpoints/ while it lasts, and at the
    end provenance.json and weights.safetensors. If these weights exist already, nothing is done. A checkpoint is
    resumed if it was made from the same settings, data and code; otherwise training starts from the beginning and the
    log says why.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:1`; under torchrun every process has a GPU of its own. A GPU stays taken
            until this process ends (`getam.utils.gpus`).
        workers: processes that prepare images; None: as many as fit the machine.
        first_phase: folder that `train_first_phase` has written for this experiment, or for one with the same first
            phase: training continues from there, with the same result. None: both phases are trained here.
        again: discard the weights and checkpoints of this training first, and train from the beginning. The text names
            the request: the next call with the same text resumes instead. Empty: discard at every call.

    Raises:
        FileNotFoundError: an image, a saliency map or a given label is missing; before anything is trained.
        ValueError: settings that do not fit the data or the machine; or the first phase is another experiment's.
        NotFinite: a loss became NaN or infinite; the state before that step is saved.
        Interrupted: by SIGTERM or Ctrl-C; the state is saved.
        MemoryError: names the settings to lower.

    >>> weights = train(experiment, folder, device="cpu", workers=0)  # experiment: as load_experiment returns it
    >>> weights.name
    'weights.safetensors'
    >>> (folder / "history.csv").is_file()
    True
    """
    return _train(experiment, folder, device, workers, WEIGHTS, first_phase, again)


def train_first_phase(
    experiment: Experiment,
    folder: Path,
    device: str = "auto",
    workers: int | None = None,
    again: str | None = None,
) -> Path:
    """Trains the first phase alone and returns the path of its state; otherwise as `train`.

    Experiments with the same `getam.config.first_phase.first_phase_of` can continue from it.

    Raises:
        ValueError: as in `train`, and if the experiment has no first phase.
    """
    phase = first_phase_of(experiment)
    if phase is None:
        raise ValueError("training.classification is 0: there is no first phase")
    return _train(phase, folder, device, workers, FIRST_PHASE, None, again)


def _train(
    experiment: Experiment,
    folder: Path,
    device: str,
    workers: int | None,
    result: str,
    first_phase: Path | None,
    again: str | None,
) -> Path:
    dataset = open_dataset(experiment.data.dataset)
    split = dataset.split(experiment.data.split)
    with replica(device) as this:
        identity = identity_of(experiment, dataset, split)
        finished = FinishedTraining(folder, result, identity)
        precision = tf32_allowed(experiment.training.precision)
        with exclusive(folder, this), _explaining_lack_of_memory(experiment.training), precision:
            if again is not None:
                if this.is_main and discard_training(finished, again):
                    _log.warning("what this training has left in %s is discarded: it is to be trained again", folder)
                this.barrier()
            if finished.exists(restore=this.is_main):
                _log.info("%s is there already, from these settings, data and code", finished.result)
                return finished.result
            start = None if first_phase is None else _first_phase_in(first_phase, experiment, dataset, split)
            trainer = Trainer(experiment, dataset, split, finished, this, workers, start)
            if this.is_main:
                if finished.set_aside():
                    _log.warning("the earlier result is set aside in %s until this training ends", folder / PREVIOUS)
                write_experiment(folder, experiment)
            trainer.run()
            if this.is_main:
                trainer.finish()
                finished.forget_previous()
    return finished.result


def identity_of(experiment: Experiment, dataset: DataSet, split: Split) -> dict[str, str]:
    """Digests of everything that the trained weights depend on, by name: settings, data, code.

    Raises:
        FileNotFoundError: an image, a saliency map, a given label or the file of pretrained weights is missing.
    """
    given = experiment.given_labels(split.name, split.masks)
    data = training_data_digests(dataset, split, experiment.data.saliency if given is None else None)
    if given is not None:
        data["given labels"] = labels_digest(split, given)
    if isinstance(experiment.network.pretrained, Path):
        data["pretrained"] = provenance.file_digest(experiment.network.pretrained)
    return {
        "settings": training_digest(experiment),
        **{f"data ({part})": digest for part, digest in data.items()},
        "code": provenance.step_digest(__name__, *experiment.training_modules()),
    }


def _first_phase_in(folder: Path, experiment: Experiment, dataset: DataSet, split: Split) -> FirstPhase:
    phase = first_phase_of(experiment)
    if phase is None:
        raise ValueError(f"training.classification is 0: there is no first phase to take from {folder}")
    return FirstPhase(folder, identity_of(phase, dataset, split))


@contextmanager
def _explaining_lack_of_memory(settings: Training) -> Iterator[None]:
    """Turns torch's out-of-memory errors into a MemoryError that names the settings to lower."""
    try:
        yield
    except RuntimeError as error:
        # Only GPUs have an exception class of their own.
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise MemoryError(
            f"out of memory ({str(error).splitlines()[0]}). Without losing trained steps: end other programs, or share "
            "the batch among more processes (torchrun --nproc-per-node). Otherwise lower "
            f"training.batch ({settings.batch}) or training.crop ({settings.crop}), or set training.precision "
            f"({settings.precision}) to bfloat16; training then starts again"
        ) from error
