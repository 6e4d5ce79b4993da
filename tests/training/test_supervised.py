"""Training with given labels: the masks of the data set, or those of a teacher."""

import csv
import json
import shutil
import signal

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from getam import build_model, load_experiment, load_network, open_dataset
from getam.data.images import read_mask, write_mask
from getam.data.labelled import LabelledImages
from getam.training.launch import identity_of, train, train_first_phase
from getam.training.optimisation import learning_rate
from getam.training.supervised import LabelledBatch, SupervisedPhase
from getam.utils.provenance import modules_of_step
from getam.utils.signals import Interrupted


@pytest.fixture
def supervised(small_experiment):
    """Settings of a training with the data set's masks; maps and saliency play no part in it."""
    data = {**small_experiment["data"], "saliency": None}
    training = {**small_experiment["training"], "steps": 15, "joint_factor": 0.5}
    return {**small_experiment, "data": data, "training": training, "taught_by": "truth"}


def identity(settings):
    experiment = load_experiment(settings)
    dataset = open_dataset(experiment.data.dataset)
    return identity_of(experiment, dataset, dataset.split(experiment.data.split))


def history(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def test_truth_from_settings_to_weights(supervised, tmp_path):
    supervised["monitoring"] = {"history": 5, "sheet": 15}
    path = train(load_experiment(supervised), tmp_path, workers=0)
    rows = history(tmp_path)
    assert [int(row["step"]) for row in rows] == [5, 10, 15]
    assert {row["phase"] for row in rows} == {"supervised"}
    assert all(row["classification"] and row["cross_entropy"] and float(row["labelled"]) > 0.3 for row in rows)
    assert not any(row["saliency"] or row["dense_energy"] for row in rows)
    assert (tmp_path / "sheets" / "step-000015.png").is_file()
    described = json.loads((tmp_path / "provenance.json").read_text())
    assert (described["taught_by"], described["saliency"], described["steps"]) == ("truth", "none", 15)
    assert "data (given labels)" in described["made_from"]
    network, classes = load_network(path)
    assert classes == open_dataset(supervised["data"]["dataset"]).classes
    assert network(torch.zeros(1, 3, 32, 32))[1].shape == (1, len(classes) + 1, 32, 32)


@pytest.mark.parametrize("backbone", ["vit_micro_hybrid", "deeplab_v2"])
def test_in_the_forms_for_speed(supervised, tmp_path, backbone):
    """bfloat16, channels_last and the fused optimiser; nothing is compiled on this machine."""
    supervised["network"] |= {"backbone": backbone}
    supervised["training"] |= {"speed": "fast", "compile": False, "steps": 2}
    train(load_experiment(supervised), tmp_path, workers=0)
    network, _ = load_network(tmp_path / "weights.safetensors")
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_an_interrupted_run_goes_on_bit_for_bit(supervised, tmp_path, monkeypatch):
    experiment, (whole, parts) = load_experiment(supervised), (tmp_path / "whole", tmp_path / "parts")
    train(experiment, whole, workers=0)
    read, asked = LabelledImages.__getitem__, []

    def signalling(self, position):
        asked.append(position)
        if len(asked) == 4 * 7 + 1:
            signal.raise_signal(signal.SIGTERM)
        return read(self, position)

    with monkeypatch.context() as patch:
        patch.setattr(LabelledImages, "__getitem__", signalling)
        with pytest.raises(Interrupted, match="interrupted after 8 of 15 steps"):
            train(experiment, parts, workers=0)
    train(experiment, parts, workers=0)
    assert (whole / "weights.safetensors").read_bytes() == (parts / "weights.safetensors").read_bytes()


def test_the_losses_are_those_of_plain_float64(supervised):
    supervised["training"] |= {"split_cross_entropy": False}
    experiment, chance = load_experiment(supervised), torch.Generator().manual_seed(0)
    network = build_model(num_classes=5, pretrained=False, **experiment.network_arguments()).eval().double()
    pixels = torch.randint(0, 6, (2, 32, 32), generator=chance).byte()
    pixels[:, :9] = 255
    batch = LabelledBatch(
        torch.randint(0, 256, (2, 3, 32, 32), generator=chance).byte(),
        pixels,
        torch.ones(2, 32, 32, dtype=torch.bool),
        torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]),
    )
    images = batch.network_input.double()
    losses = SupervisedPhase(network, experiment)(images, batch).losses
    class_logits, seg_logits = network(images)
    given = F.cross_entropy(seg_logits, pixels.long(), ignore_index=255)
    classes = F.binary_cross_entropy_with_logits(class_logits, batch.labels.double())
    assert losses.keys() == {"classification", "cross_entropy"}
    assert losses["cross_entropy"].item() == pytest.approx(given.item(), rel=1e-9)
    assert losses["classification"].item() == pytest.approx(classes.item(), rel=1e-9)


def test_deeplab_has_a_loss_for_each_scale_and_for_the_maximum(supervised):
    supervised["network"] = {"backbone": "deeplab_v2", "pretrained": False}
    supervised["training"] |= {"split_cross_entropy": False, "crop": 65}
    experiment, chance = load_experiment(supervised), torch.Generator().manual_seed(0)
    network = build_model(num_classes=5, pretrained=False, **experiment.network_arguments()).eval().double()
    pixels = torch.randint(0, 6, (2, 65, 65), generator=chance).byte()
    pixels[:, :20] = 255
    batch = LabelledBatch(
        torch.randint(0, 256, (2, 3, 65, 65), generator=chance).byte(),
        pixels,
        torch.ones(2, 65, 65, dtype=torch.bool),
        torch.ones(2, 5),
    )
    images = batch.network_input.double()
    with torch.no_grad():
        output, scales = SupervisedPhase(network, experiment)(images, batch), network.scales(images)
    # Logits of the scales are 8, 10.67 and 16 pixels apart, those of the maximum 8.
    positions = [np.rint(np.linspace(0, 64, n)).astype(int) for n in (9, 7, 5, 9)]
    expected = sum(
        F.cross_entropy(logits, pixels.long()[:, rows][:, :, rows], ignore_index=255).item()
        for logits, rows in zip(scales, positions, strict=True)
    )
    assert positions[0].tolist() == list(range(0, 65, 8))
    assert output.losses.keys() == {"cross_entropy"}
    assert output.total.item() == pytest.approx(expected, rel=1e-6)
    assert output.seg_logits.shape == (2, 6, 65, 65)


def test_the_rate_falls_without_the_factors_of_the_phases(supervised):
    training = load_experiment(supervised).training
    rates = [learning_rate(training, step, 15) for step in range(15)]
    assert rates == pytest.approx([1e-3 * (1 - step / 15) ** 0.9 for step in range(15)])


def test_every_given_label_is_part_of_the_identity(supervised, small_shapes, tmp_path):
    folder = tmp_path / "teacher" / "train" / "pseudo_labels"
    shutil.copytree(open_dataset(supervised["data"]["dataset"]).split("train").masks, folder)
    taught = {**supervised, "taught_by": {"run": str(tmp_path / "teacher")}}
    first = identity(taught)
    assert first["data (given labels)"] == identity(supervised)["data (given labels)"]
    changed = folder / f"{open_dataset(supervised['data']['dataset']).split('train').ids[3]}.png"
    mask = read_mask(changed)
    mask[0, 0] = 255
    write_mask(changed, mask)
    second = identity(taught)
    assert [name for name in first if first[name] != second[name]] == ["data (given labels)"]
    changed.unlink()
    with pytest.raises(FileNotFoundError, match=r"given labels of split 'train' are missing: .*`getam label`"):
        identity(taught)


def test_a_network_learns_from_what_it_is_given(supervised, tmp_path):
    """Taught that every pixel has the first class, it predicts nothing else."""
    dataset = open_dataset(supervised["data"]["dataset"])
    folder = tmp_path / "teacher" / "train" / "masks_known_classes"
    for name in dataset.split("train").ids:
        size = read_mask(dataset.split("train").mask(name)).shape
        write_mask(folder / f"{name}.png", np.full(size, 1, np.uint8))
    supervised |= {"taught_by": {"run": str(tmp_path / "teacher"), "labels": "masks"}}
    supervised["training"] |= {"steps": 40, "rate": 5e-3}
    network, _ = load_network(train(load_experiment(supervised), tmp_path / "run", workers=0))
    with torch.no_grad():
        found = network(torch.randn(2, 3, 32, 32))[1].argmax(1)
    assert (found == 1).float().mean() > 0.95
    described = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert (described["taught_by"], described["saliency"]) == ("masks of teacher", "not noted")


def test_truth_needs_masks(supervised, small_shapes, tmp_path):
    folder = tmp_path / "dataset"
    shutil.copytree(small_shapes / "dataset", folder)
    description = json.loads((folder / "dataset.json").read_text())
    description["splits"]["train"]["masks"] = None
    (folder / "dataset.json").write_text(json.dumps(description))
    supervised["data"] |= {"dataset": str(folder)}
    with pytest.raises(ValueError, match="taught_by: truth needs masks, and split 'train' has none in"):
        train(load_experiment(supervised), tmp_path / "run", workers=0)


def test_there_is_no_first_phase(supervised, tmp_path):
    with pytest.raises(ValueError, match=r"there is no first phase"):
        train_first_phase(load_experiment(supervised), tmp_path, workers=0)


def test_an_edit_here_makes_no_other_training_stale(supervised):
    own = "getam.training.supervised"
    assert own not in modules_of_step("getam.training.launch")
    assert load_experiment(supervised).training_modules() == (own,)
    assert identity(supervised)["code"] != identity({**supervised, "taught_by": None})["code"]
