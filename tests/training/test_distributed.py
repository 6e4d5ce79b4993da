"""Training in two processes, over gloo on the CPU."""

import csv
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from getam import build_model, load_experiment
from getam.training.distributed import replica, synchronise_batch_norm
from getam.training.phases import Batch, ClassificationPhase, JointPhase
from tests.training.test_training import random_batch

pytestmark = pytest.mark.slow


def in_two_processes(function, folder):
    """function(replica) in each of two processes; returns what they return."""
    script = f"import tests.training.test_distributed as t; t.call({function.__name__!r}, {str(folder)!r})"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    (folder / "script.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    subprocess.run([*torchrun, str(folder / "script.py")], check=True, env=environment, timeout=300)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def call(name, folder):
    with replica("cpu") as this:
        torch.save(globals()[name](this), f"{folder}/{this.rank}.pt")


def batch_norm(this):
    torch.manual_seed(0)
    norm = nn.Sequential(nn.BatchNorm2d(3)).double()
    nn.init.normal_(norm[0].weight)
    if this.count > 1:
        norm = synchronise_batch_norm(norm, this)
    x = torch.randn(4, 3, 5, 6, dtype=torch.float64)
    factors = torch.randn(4, 3, 5, 6, dtype=torch.float64)
    part = slice(this.rank * 4 // this.count, (this.rank + 1) * 4 // this.count)
    inputs = x[part].clone().requires_grad_()
    outputs = norm(inputs)
    (outputs * factors[part]).sum().backward()
    return {"outputs": outputs.detach(), "gradient": inputs.grad, "state": norm.state_dict()}


def test_batch_statistics_are_those_of_all_images(tmp_path):
    parts = in_two_processes(batch_norm, tmp_path)
    with replica("cpu") as alone:
        expected = batch_norm(alone)
    for what in ("outputs", "gradient"):
        assert torch.allclose(torch.cat([part[what] for part in parts]), expected[what], atol=1e-12)
    for part in parts:
        assert part["state"].keys() == expected["state"].keys()
        assert all(torch.allclose(part["state"][name], value) for name, value in expected["state"].items())


SETTINGS = {
    "name": "e",
    "data": {"dataset": "d", "saliency": None},
    "network": {"backbone": "vit_micro_hybrid", "pretrained": False, "classifier": "class_token", "decoder_width": 16},
    "recipe": "paper",
}


def gradients(phase_type, this):
    torch.manual_seed(0)
    experiment = load_experiment(SETTINGS)
    network = synchronise_batch_norm(
        build_model(num_classes=5, pretrained=experiment.network.pretrained, **experiment.network_arguments()), this
    ).train()
    network.segmentation_head[3].p = 0  # dropout differs between replicas, as it should
    whole = random_batch()
    part = slice(this.rank * 6 // this.count, (this.rank + 1) * 6 // this.count)
    batch = Batch(*(values[part] for values in whole))
    phase = this.data_parallel(phase_type(network, experiment), all_used=phase_type is JointPhase)
    phase(batch.network_input, batch).total.backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


classification_gradients = partial(gradients, ClassificationPhase)
classification_gradients.__name__ = "classification_gradients"
joint_gradients = partial(gradients, JointPhase)
joint_gradients.__name__ = "joint_gradients"


def test_gradients_of_the_classification_phase_are_those_of_the_whole_batch(tmp_path):
    first, second = in_two_processes(classification_gradients, tmp_path)
    with replica("cpu") as alone:
        expected = classification_gradients(alone)
    assert first.keys() == second.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], gradient, rtol=1e-3, atol=1e-5 * gradient.abs().max())


def test_gradients_of_the_joint_phase_are_the_same_everywhere(tmp_path):
    first, second = in_two_processes(joint_gradients, tmp_path)
    experiment = load_experiment(SETTINGS)
    assert (
        first.keys()
        == second.keys()
        == dict(
            build_model(
                num_classes=5, pretrained=experiment.network.pretrained, **experiment.network_arguments()
            ).named_parameters()
        ).keys()
    )
    assert all(torch.equal(first[name], second[name]) and first[name].any() for name in first)


@pytest.mark.parametrize("classification", [1.0, 0.5])
def test_training_in_two_processes(small_experiment, tmp_path, classification):
    small_experiment["training"]["classification"] = classification
    (tmp_path / "e.json").write_text(json.dumps(small_experiment))
    arguments = ["-m", "getam.cli", "train", str(tmp_path / "e.json"), "--device", "cpu", "--workers", "0", "--output"]
    subprocess.run([sys.executable, *arguments, str(tmp_path / "one")], check=True)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *torchrun, *arguments, str(tmp_path / "two")], check=True, env=environment)
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    totals = []
    for name in ("one", "two"):
        with (tmp_path / name / "history.csv").open() as file:
            totals.append([float(row["total"]) for row in csv.DictReader(file)])
    if classification == 1:
        assert totals[0] == pytest.approx(totals[1], rel=1e-4)
        # Adam divides by the gradient's size, which makes more of rounding than the gradient itself has.
        assert max((one[name].float() - two[name].float()).abs().max() for name in one) < 1e-3
    else:
        # The joint losses are means over each process's own pixels, and so differ a little.
        assert totals[0] == pytest.approx(totals[1], rel=0.1)
    described = json.loads((tmp_path / "two" / "provenance.json").read_text())
    assert described["processes"] == 2


def test_a_batch_that_cannot_be_shared(small_experiment, tmp_path):
    small_experiment["training"]["batch"] = 5
    (tmp_path / "e.json").write_text(json.dumps(small_experiment))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "getam.cli", "train", str(tmp_path / "e.json"), "--output", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "training.batch: 5 images cannot be shared by 2 processes" in done.stderr
