import numpy as np
import pytest
import timm
import torch
from PIL import Image

from getam import activation_maps, build_model, explain
from getam.cli.command import main
from getam.models.saving import save_network


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_model("vit_micro_hybrid", 5, classifier="class_token", decoder_width=16)


def photograph(height=40, width=60):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_maps_of_the_classes_asked_for(network):
    found = explain(network, photograph(), [3, 1])
    assert list(found) == [3, 1]
    for activation in found.values():
        assert activation.shape == (40, 60)
        assert activation.min() >= 0
        assert 0.9 < activation.max() <= 1
    assert not torch.equal(found[3], found[1])


def test_classes_that_the_network_finds(network):
    with torch.no_grad():
        network.classifier.linear.bias.copy_(torch.tensor([-9.0, 9, -9, 12, -9]))
    assert list(explain(network, photograph())) == [3, 1]
    with torch.no_grad():
        network.classifier.linear.bias.copy_(torch.tensor([-9.0, -8, -9, -7, -9]))
    assert list(explain(network, photograph())) == [3]


def test_a_plain_timm_transformer_with_its_own_head():
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=7)
    rgb = photograph(224, 224)
    found = explain(vit, rgb, [2], refine=False)[2]
    assert found.shape == (224, 224)
    # Its own statistics, 0.5 and 0.5, and the size that it was made for: no resizing here.
    images = torch.from_numpy(rgb).permute(2, 0, 1)[None] / 127.5 - 1
    labels = torch.zeros(1, 7)
    labels[0, 2] = 1
    expected = activation_maps(vit.eval(), images, labels)[0, 2]
    centres = found[8::16, 8::16]
    assert centres.shape == expected.shape
    assert np.corrcoef(centres.flatten(), expected.flatten())[0, 1] > 0.98


def test_maps_as_a_run_makes_them():
    torch.manual_seed(0)
    vit, rgb = timm.create_model("vit_tiny_patch16_224", num_classes=7), photograph(224, 224)
    images, labels = torch.from_numpy(rgb).permute(2, 0, 1)[None] / 127.5 - 1, torch.eye(7)[2:3]
    for how in ({"start_layer": 2}, {"fusion": "product"}, {"heads": "paper"}):
        centres = explain(vit, rgb, [2], refine=False, **how)[2][8::16, 8::16]
        expected = activation_maps(vit.eval(), images, labels, **how)[0, 2]
        assert np.corrcoef(centres.flatten(), expected.flatten())[0, 1] > 0.98


@pytest.mark.parametrize(
    ("classes", "message"), [([5], "expected 0 to 4, got 5"), ([1, 1], "different ones"), ([], "at least one")]
)
def test_mistakes(network, classes, message):
    with pytest.raises(ValueError, match=message):
        explain(network, photograph(), classes)
    with pytest.raises(ValueError, match="image_rgb: expected uint8"):
        explain(network, photograph().astype(np.float32), [1])


def test_command(network, tmp_path, capsys):
    arguments = {"backbone": "vit_micro_hybrid", "classifier": "class_token", "decoder_width": 16}
    names = ["cat", "dog", "dining table", "sheep", "train"]
    save_network(tmp_path / "w.safetensors", network, names, {}, **arguments)
    Image.fromarray(photograph()).save(tmp_path / "photo.png")
    command = ["explain", str(tmp_path / "photo.png"), "--checkpoint", str(tmp_path / "w.safetensors")]
    command += ["--output", str(tmp_path / "out")]
    assert main([*command, "--classes", "dining table", "0"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"photo-dining_table.png", "photo-cat.png"}
    with Image.open(tmp_path / "out" / "photo-cat.png") as picture:
        assert picture.size == (60, 40)
    assert main([*command, "--classes", "horse"]) == 1
    assert "no class 'horse'; known are cat, dog, dining table, sheep, train" in capsys.readouterr().err
    assert main(["explain", str(tmp_path / "photo.png")]) == 1
    assert "expected --checkpoint, or --timm" in capsys.readouterr().err


def test_command_with_a_timm_network(tmp_path):
    torch.manual_seed(0)
    torch.save(timm.create_model("deit_tiny_patch16_224").state_dict(), tmp_path / "deit.pth")
    Image.fromarray(photograph()).save(tmp_path / "photo.png")
    command = ["explain", str(tmp_path / "photo.png"), "--timm", "deit_tiny_patch16_224", "--output", str(tmp_path)]
    assert main([*command, "--checkpoint", str(tmp_path / "deit.pth"), "--classes", "tabby"]) == 0
    assert (tmp_path / "photo-tabby.png").is_file()
    assert main(["explain", str(tmp_path / "photo.png"), "--timm", "no_such_model"]) == 1
