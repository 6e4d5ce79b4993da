"""What users run on a GPU: trainings that go on, labels, predictions, explanations; for machines with one.

Additions come in any order on a GPU, and dropout has each device's own chance: results agree within a tolerance.
"""

import gc
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from getam import explain, load_experiment, train
from getam.data.images import read_mask
from getam.data.loading import TrainingImages
from getam.evaluation.run import Run
from getam.models.saving import load_network
from getam.training import trainer
from getam.training.history import read_history
from getam.training.launch import train_first_phase
from getam.utils.signals import Interrupted

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
SGD = {"training.optimiser": "sgd", "training.weight_decay": None, "training.rate": 0.01}


def losses(folder):
    return [float(row["total"]) for row in read_history(folder)]


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def trained(trained_folder, small_experiment):
    """A run that nothing has interrupted; the first test that asks trains it."""
    train(load_experiment(small_experiment), trained_folder, device="cuda", workers=0)
    return trained_folder


@pytest.fixture
def interrupted_once(monkeypatch):
    prepare, asked = TrainingImages.__getitem__, []

    def signalling(self, position):
        asked.append(position)
        if len(asked) == 4 * 15 + 1:  # in the joint phase
            signal.raise_signal(signal.SIGTERM)
        return prepare(self, position)

    monkeypatch.setattr(TrainingImages, "__getitem__", signalling)


def test_a_stopped_training_resumes(trained, small_experiment, tmp_path, interrupted_once):
    experiment = load_experiment(small_experiment)
    with pytest.raises(Interrupted, match="interrupted after 1[56] of 24 steps"):
        train(experiment, tmp_path, device="cuda", workers=0)
    train(experiment, tmp_path, device="cuda", workers=0)
    assert losses(tmp_path) == pytest.approx(losses(trained), rel=0.05)


def test_a_shared_first_phase(trained, small_experiment, tmp_path):
    experiment = load_experiment(small_experiment)
    train_first_phase(experiment, tmp_path / "phase", device="cuda", workers=0)
    train(experiment, tmp_path / "run", device="cuda", workers=0, first_phase=tmp_path / "phase")
    assert losses(tmp_path / "run") == pytest.approx(losses(trained), rel=0.05)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("changes", [{}, SGD], ids=["adamw", "sgd"])
def test_fast_settings(small_experiment, tmp_path, changes):
    """bfloat16, channels last, fused, and compiled where that is possible."""
    for speed in ("exact", "fast"):
        experiment = load_experiment(small_experiment, {**changes, "training.speed": speed})
        train(experiment, tmp_path / speed, device="cuda", workers=0)
    exact, fast = losses(tmp_path / "exact"), losses(tmp_path / "fast")
    assert fast[:2] == pytest.approx(exact[:2], rel=0.02)
    assert fast == pytest.approx(exact, rel=0.2)


def test_labels_of_crfs(small_experiment, tmp_path):
    changes = {"maps.labels": "crf", "training.epochs": 1, "training.classification": 0}
    for device in ("cpu", "cuda"):
        train(load_experiment(small_experiment, changes), tmp_path / device, device=device, workers=0)
    assert losses(tmp_path / "cuda") == pytest.approx(losses(tmp_path / "cpu"), rel=0.2)


def test_predicted_and_pseudo_labels(trained, tmp_path):
    """The same masks of the same weights as on the CPU, up to pixels where two classes are equally probable."""
    masks = {}
    for device in ("cpu", "cuda"):
        run = Run(shutil.copytree(trained, tmp_path / device))
        for step in (
            run.predict("val", torch.device(device)),
            run.refine("val", crf=False),
            run.label("train", torch.device(device)),
        ):
            list(step)
        folders = (run.masks("val", crf=False), run.pseudo_labels("train"))
        masks[device] = [read_mask(path) for folder in folders for path in sorted(folder.glob("*.png"))]
    assert masks["cpu"]
    differing = [np.mean(a != b) for a, b in zip(*masks.values(), strict=True)]
    assert max(differing) < 0.01


def test_explanation(trained):
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    maps = [
        explain(load_network(trained / "weights.safetensors")[0].to(device).eval(), image, [0, 2], size=64)
        for device in ("cpu", "cuda")
    ]
    for c in (0, 2):
        assert not maps[1][c].is_cuda
        assert (maps[0][c] - maps[1][c]).abs().max() < 1e-3


def test_memory_does_not_grow(small_experiment, tmp_path, monkeypatch):
    """What is allocated between two steps stays the same: for 200 joint steps, of which a pretended GPU does some."""
    epochs = 10 if torch.cuda.get_device_name() == "pretended" else 34
    held, rate = [], trainer.learning_rate

    def noting(settings, step, steps):
        gc.collect()
        held.append(torch.cuda.memory_allocated())
        return rate(settings, step, steps)

    monkeypatch.setattr(trainer, "learning_rate", noting)
    changes = {"training.epochs": epochs, "training.classification": 0, "monitoring.history": 1000}
    train(load_experiment(small_experiment, changes), tmp_path, device="cuda", workers=0)
    assert len(held) >= 6 * epochs
    assert held[-1] > 0
    assert max(held[-20:]) <= max(held[10:30]) * 1.01


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus(trained, small_experiment, tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text(load_experiment(small_experiment).as_yaml())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "getam.cli", "train", str(path), "--output", str(tmp_path / "run"), "--workers", "0"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert losses(tmp_path / "run") == pytest.approx(losses(trained), rel=0.2)
