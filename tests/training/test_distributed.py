"""Training in two processes, over gloo on the CPU."""

import csv
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from getam import build_model, load_experiment
from getam.method.activation import ActivationRecord
from getam.method.losses import DenseEnergyLoss, classification_loss, cross_entropy_loss, saliency_loss
from getam.method.pseudo_labels import make_targets, saliency_target
from getam.training.distributed import replica, synchronise_batch_norm
from getam.training.phases import Batch, ClassificationPhase, JointPhase
from tests.training.test_training import random_batch


def in_two_processes(folder):
    """The results of `calls` in each of two processes, by name."""
    script = f"import tests.training.test_distributed as t; t.calls({str(folder)!r})"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    (folder / "script.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    subprocess.run([*torchrun, str(folder / "script.py")], check=True, env=environment, timeout=300)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What two processes that are started once have computed."""
    return in_two_processes(tmp_path_factory.mktemp("two"))


def calls(folder):
    with replica("cpu") as this:
        functions = (batch_norm, classification_gradients, joint_gradients, partial(waited, folder=folder))
        torch.save([function(this) for function in functions], f"{folder}/{this.rank}.pt")


def waited(this, folder):
    """Whether a file of the other process, which takes its time, is there after the barrier."""
    path = Path(folder) / "late"
    if this.is_main:
        time.sleep(1)
        path.touch()
    this.barrier()
    return path.exists()


def test_a_barrier_waits(parts):
    assert [part[3] for part in parts] == [True, True]


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


def test_batch_statistics_are_those_of_all_images(parts):
    parts = [part[0] for part in parts]
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
    loaded = {key: values[part] for key, values in zip(Batch._fields, whole[:-1], strict=False)}
    batch = Batch.on(this.device, loaded)
    phase = this.data_parallel(phase_type(network, experiment), all_used=phase_type is JointPhase)
    phase(batch.network_input, batch).total.backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


classification_gradients = partial(gradients, ClassificationPhase)
joint_gradients = partial(gradients, JointPhase)


def test_gradients_of_the_classification_phase_are_those_of_the_whole_batch(parts):
    with replica("cpu") as alone:
        expected = classification_gradients(alone)
    assert_gradients([part[1] for part in parts], expected)


def test_gradients_of_the_joint_phase_are_those_of_the_whole_batch(parts):
    """One forward of all images, whose losses are means over each half's own pixels, as they are in two processes."""
    torch.manual_seed(0)
    experiment = load_experiment(SETTINGS)
    network = build_model(num_classes=5, pretrained=False, **experiment.network_arguments()).train()
    network.segmentation_head[3].p = 0
    batch, training = random_batch(), experiment.training
    record = ActivationRecord(network, experiment.maps.method, experiment.start_layer, heads=experiment.recipe.heads)
    with record:
        class_logits, seg_logits = network(batch.network_input)
    maps = record.maps(class_logits, batch.labels)
    total = 0
    for half in (slice(0, 3), slice(3, 6)):
        of_half, logits = Batch(*(values[half] for values in batch[:-1])), seg_logits[half]
        _, pixels, mined = make_targets(
            maps[half],
            of_half.image_rgb,
            of_half.saliency,
            of_half.labels,
            of_half.valid,
            experiment.maps,
            experiment.recipe,
        )
        target = saliency_target(of_half.saliency, mined, experiment.recipe)
        energy = DenseEnergyLoss(**training.dense_energy.model_dump())
        total += classification_loss(class_logits[half], of_half.labels) / 2
        total += cross_entropy_loss(logits, pixels, training.split_cross_entropy) / 2
        total += saliency_loss(logits, target, of_half.valid) / 2
        total += energy(of_half.image_rgb.float(), logits.softmax(1), of_half.valid, pixels) / 2
    total.backward()
    expected = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert_gradients([part[2] for part in parts], expected)


def assert_gradients(parts, expected):
    first, second = parts
    assert first.keys() == second.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], gradient, rtol=1e-3, atol=1e-5 * gradient.abs().max()), name


@pytest.mark.slow
@pytest.mark.parametrize(("classification", "taught_by"), [(1.0, None), (0.5, None), (0.5, "truth")])
def test_training_in_two_processes(small_experiment, tmp_path, classification, taught_by):
    small_experiment["training"]["classification"] = classification
    small_experiment["taught_by"] = taught_by
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
        # The losses of pixels are means over each process's own, and so differ a little.
        assert totals[0] == pytest.approx(totals[1], rel=0.1)
    described = json.loads((tmp_path / "two" / "provenance.json").read_text())
    assert described["processes"] == 2


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared(small_experiment, tmp_path):
    small_experiment["training"]["batch"] = 5
    (tmp_path / "e.json").write_text(json.dumps(small_experiment))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "getam.cli", "train", str(tmp_path / "e.json"), "--output", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "training.batch: 5 images cannot be shared by 2 processes" in done.stderr


# Pretended GPUs: four that torch counts, with gloo on the CPU in place of NCCL.
ON_FOUR_GPUS = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
import torch
from getam.training.distributed import replica
answers = {"is_available": True, "device_count": 4, "set_device": None}
for name, value in answers.items():
    setattr(torch.cuda, name, lambda *_, value=value: value)
torch.cuda.get_device_properties = lambda index: SimpleNamespace(uuid=f"gpu-{index}")
begin = torch.distributed.init_process_group
torch.distributed.init_process_group = lambda backend, **options: begin("gloo", **options)
folder, job, others = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with replica("cuda") as this:
    (folder / f"{job}-{this.rank}").write_text(str(this.device))
    until = time.monotonic() + 100
    while len(list(folder.glob("*-*"))) < others and time.monotonic() < until:
        time.sleep(0.1)
"""


@pytest.mark.slow
def test_two_trainings_of_two_gpus_each(tmp_path):
    """Each process waits until all four are there: every one of them has a GPU of its own; later all are free."""
    (tmp_path / "script.py").write_text(ON_FOUR_GPUS)
    (tmp_path / "locks").mkdir()
    (tmp_path / "found").mkdir()
    environment = {
        **{key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"},
        "PYTHONPATH": str(Path.cwd()),
        "OMP_NUM_THREADS": "1",
        "GETAM_GPU_LOCKS": str(tmp_path / "locks"),
    }
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = [str(tmp_path / "script.py"), str(tmp_path / "found")]
    jobs = [
        subprocess.Popen([sys.executable, *torchrun, *script, name, "4"], env=environment) for name in ("one", "two")
    ]
    try:
        assert [job.wait(200) for job in jobs] == [0, 0]
    finally:
        for job in jobs:
            job.kill()
    found = {path.name: path.read_text() for path in (tmp_path / "found").iterdir()}
    assert sorted(found) == ["one-0", "one-1", "two-0", "two-1"]
    assert sorted(found.values()) == [f"cuda:{index}" for index in range(4)]
    subprocess.run([sys.executable, *script, "three", "5"], env=environment, check=True, timeout=100)
    assert (tmp_path / "found" / "three-0").read_text() == "cuda:0"
