"""The training loop: the state of one training, its steps, checkpoints and end.

docs/explanation/method.md, section 5.
"""

import logging
import signal
import time
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from getam.config.experiment import PROVENANCE, SUPERVISED, Experiment
from getam.config.first_phase import FIRST_PHASE
from getam.config.training import first_joint_step
from getam.data.dataset import DataSet, Split
from getam.data.loading import EpochBatches, training_batches
from getam.models.network import build_model
from getam.models.saving import save_network
from getam.training.buffers import BufferCopy
from getam.training.checkpoints import Checkpoints, FinishedTraining, read_checkpoint, write_checkpoint
from getam.training.description import describe_training
from getam.training.distributed import Replica, synchronise_batch_norm
from getam.training.finite import DeferredFlags, NotFinite, Unsettled
from getam.training.history import History, LossMeans, copy_history
from getam.training.image_labels import ImageLabelTraining
from getam.training.optimisation import begin_momentum, learning_rate, make_optimiser, set_learning_rate
from getam.training.phases import Batch, StepOutput, network_input
from getam.utils.files import read_json, write_json
from getam.utils.parallel import available_cores
from getam.utils.progress import progress
from getam.utils.signals import Interrupted, StopRequest, deferred_signals

_MOST_WORKERS = 8
_log = logging.getLogger(__name__)


class FirstPhase(NamedTuple):
    """A folder that `train_first_phase` has written, and the identity that its state must have."""

    folder: Path
    identity: dict[str, str]


class Trainer:
    """The state of one training, and its loop: construct, `run`, and `finish` in the main process.

    Constructing builds the network and loads the newest checkpoint, or else the end of the first phase.

    Args:
        finished: where the result will be, and the identity of this training.
        this: this process, and how many train together.
        workers: processes that prepare images; None: as many as fit the machine.
        first_phase: where training continues if there is no checkpoint; None: it starts at step 0.

    Raises:
        ValueError: settings that do not fit the data or the number of processes.
        FileNotFoundError, CheckpointError: the first phase is missing, damaged, or of another identity.
    """

    def __init__(
        self,
        experiment: Experiment,
        dataset: DataSet,
        split: Split,
        finished: FinishedTraining,
        this: Replica,
        workers: int | None,
        first_phase: FirstPhase | None,
    ):
        settings = experiment.training
        if settings.batch % this.count:
            raise ValueError(f"training.batch: {settings.batch} images cannot be shared by {this.count} processes")
        folder = finished.result.parent
        self._experiment, self._dataset, self._folder = experiment, dataset, folder
        self._finished, self._replica, self._first_phase = finished, this, first_phase
        self._kind = _kind_of(experiment)(experiment, split)
        self._images = self._kind.images
        self._batches = self._batches_from(0)
        self._workers = _default_workers(this) if workers is None else workers
        self.steps = len(self._batches)
        self._first_joint_step = first_joint_step(settings, self.steps)
        self._last = self._first_joint_step if finished.result.name == FIRST_PHASE else self.steps
        torch.manual_seed(experiment.seed)
        network = build_model(
            num_classes=len(dataset.classes), pretrained=experiment.network.pretrained, **experiment.network_arguments()
        )
        self.network = network.to(this.device)
        self._kind.prepare(self.network, this.device)
        self.network = synchronise_batch_norm(self.network, this).train()
        self._optimiser = make_optimiser(self.network, settings, experiment.recipe)
        self._checkpoints = Checkpoints(folder, finished.identity)
        self._loss_means = LossMeans(this.device)
        self._buffers = BufferCopy(self.network)
        self._updating = False  # whether weights are between two states
        self._flags = DeferredFlags(self._checkpoints, this.is_main)
        self._first_step = self._done = self._resume()
        begin_momentum(self._optimiser)
        # Read now, so that a missing file is found before anything is trained.
        self._first_phase_made = None if first_phase is None else read_json(first_phase.folder / PROVENANCE)

    def _batches_from(self, step: int) -> EpochBatches:
        settings, this = self._experiment.training, self._replica
        return EpochBatches(
            len(self._images),
            settings.batch // this.count,
            settings.epochs,
            self._experiment.seed,
            step,
            this.rank,
            this.count,
            settings.steps,
        )

    def _resume(self) -> int:
        """Loads the newest checkpoint that fits and returns the number of steps that are done."""
        main = self._replica.is_main
        moved = self._checkpoints.select() if main else []
        self._replica.barrier()  # files are moved before anyone reads them
        state, refused = self._checkpoints.latest()
        self._replica.barrier()  # everyone has read them before files are removed
        if main:
            for reason in (*moved, *refused):
                _log.warning("%s", reason)
            if state is not None:
                self._checkpoints.remove_after(state["step"])
        if state is None:
            if moved and main:
                _log.warning("training starts from the beginning")
            if self._first_phase is None:
                return 0
            state = self._end_of_first_phase(self._first_phase)
        elif main:
            _log.info("resumed after %d of %d steps", state["step"], self._last)
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._loss_means.sums.copy_(state["loss_sums"])
        self._loss_means.steps = state["loss_steps"]
        return state["step"]

    def _end_of_first_phase(self, first_phase: FirstPhase) -> dict[str, Any]:
        """The state at the end of the first phase; its history becomes this training's."""
        state = read_checkpoint(first_phase.folder / FIRST_PHASE, first_phase.identity)
        if self._replica.is_main:
            copy_history(first_phase.folder, self._folder)
            _log.info("continues from the first phase in %s", first_phase.folder)
        return state

    def run(self) -> None:
        """Trains the steps that are left.

        Raises:
            NotFinite: a loss or the norm of its gradient became NaN or infinite; the last good checkpoint is kept.
            Interrupted: by SIGTERM or Ctrl-C; the state is saved.
            Exception: any other error; the state before the step that failed is saved.
        """
        if self._first_step <= self._first_joint_step < self._last:
            self._kind.rehearse(self.network, self._experiment.training.batch // self._replica.count)
        batches = iter(self._loader())
        phases = self._kind.phases(self.network, self._replica, self._first_step, self._first_joint_step, self._last)
        history = History(self._folder, self._first_step) if self._replica.is_main else None
        saved = time.monotonic()
        self._started = saved
        try:
            with deferred_signals() as stop, self._progress() as bar:
                for phase, steps in phases:
                    for step in steps:
                        if self._flags.stop_agreed or (self._replica.count == 1 and stop):
                            self._interrupt(step, stop)
                        output, names, batch = self._step(phase, step, next(batches), bool(stop))
                        self._done = step + 1
                        self._record(history, step, output, names, batch, bar)
                        if time.monotonic() - saved > 60 * self._experiment.monitoring.checkpoint_minutes:
                            self._save(step + 1)
                            saved = time.monotonic()
                self._flags.settle()
        except (NotFinite, Interrupted):
            raise
        except Exception:
            self._save_before_error()
            raise
        finally:
            batches = None  # ends the workers
            if history is not None:
                history.close()

    def _loader(self):
        batches = self._batches_from(self._first_step)
        return training_batches(self._images, batches, self._workers, self._replica.device.type == "cuda")

    def _progress(self):
        return progress(
            total=self._last, initial=self._first_step, desc="train", unit="step", disable=not self._replica.is_main
        )

    def _step(self, phase: nn.Module, step: int, loaded: dict, stop: bool) -> tuple[StepOutput, list[str], Batch]:
        set_learning_rate(self._optimiser, learning_rate(self._experiment.training, step, self.steps))
        _seed_step(self._experiment.seed, step, self._replica.rank)
        device = self._replica.device
        batch = self._kind.batch(device, loaded)
        self._buffers.take()
        output = phase(network_input(batch, self._experiment.training), batch)
        self._optimiser.zero_grad(set_to_none=True)
        output.total.backward()
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True if device.type == "cuda" else None)
        # Weights that have diverged may still give a finite loss; their gradients do not stay finite.
        flags = self._replica.raised(~(output.total.detach() + norm).isfinite(), stop)
        self._updating = True
        self._optimiser.step()
        self._updating = False
        self._buffers.drop()
        self._flags.settle()  # the step before: the device has finished it, so that the host does not wait
        losses = {name: loss.detach() for name, loss in output.losses.items()}
        self._flags.defer(Unsettled(step, flags, losses, norm))
        return output, loaded["id"], batch

    def _save_before_error(self) -> None:
        """Saves the state after the last complete step, if the error left it intact."""
        if self._updating:
            return
        self._buffers.restore()
        try:
            self._save(self._done)
        except NotFinite:  # the likely reason of the error
            raise
        except Exception as error:  # the first error is the one to report
            _log.warning("the state after %d steps could not be saved: %s", self._done, error)

    def _interrupt(self, step: int, stop: StopRequest) -> None:
        self._save(step)
        raise Interrupted(
            f"interrupted after {step} of {self._last} steps; the same command resumes there",
            stop.number or signal.SIGTERM,
        )

    def _record(
        self, history: History | None, step: int, output: StepOutput, names: list[str], batch: Batch, bar
    ) -> None:
        monitoring = self._experiment.monitoring
        self._loss_means.add(output, len(names) * self._replica.count)
        done = step + 1
        if history is not None:
            bar.update()
            if monitoring.sheet and output.pixels is not None and (done % monitoring.sheet == 0 or done == self.steps):
                history.add_sheet(done, names, batch, output, self._dataset.classes)
        if done % monitoring.history == 0 or done in (self._first_joint_step, self.steps):
            self._flags.settle()
            row = self._loss_means.close(self._replica, output)
            if history is not None:
                rate = learning_rate(self._experiment.training, step, self.steps)
                epoch = step // self._batches.steps_per_epoch + 1
                history.add({"step": done, "epoch": epoch, "rate": rate, **row})
                bar.set_postfix(loss=f"{row['total']:.4g}", refresh=False)

    def _save(self, step: int) -> None:
        self._flags.settle()
        if self._replica.is_main:
            self._checkpoints.save(step, self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "loss_sums": self._loss_means.sums,
            "loss_steps": self._loss_means.steps,
        }

    def finish(self) -> None:
        """Writes provenance and the result, and removes the checkpoints."""
        seconds = time.monotonic() - self._started
        described = describe_training(self._experiment, self._finished.identity, self._replica, self._last, seconds)
        if self._first_phase_made is not None:
            described["first_phase"] = self._first_phase_made
        write_json(self._folder / PROVENANCE, described)
        result = self._finished.result
        if result.name == FIRST_PHASE:
            write_checkpoint(result, self._finished.identity, self._last, self._state())
        else:
            arguments = self._experiment.network_arguments()
            save_network(result, self.network, self._dataset.classes, self._finished.identity, **arguments)
        self._finished.keep()
        self._checkpoints.remove()


def _kind_of(experiment: Experiment) -> type:
    """The kind of the training. Given labels have a module of their own, which is imported by name: digests of code
    do not follow this, and other trainings do not depend on it.
    """
    if experiment.taught_by is None:
        return ImageLabelTraining
    return import_module(SUPERVISED).SupervisedTraining


def _default_workers(this: Replica) -> int:
    cores = max(1, available_cores() // this.count)
    # On the CPU the network needs the cores itself.
    return min(_MOST_WORKERS, cores) if this.device.type == "cuda" else 1


def _seed_step(seed: int, step: int, rank: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1)))
