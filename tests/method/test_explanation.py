import cv2
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
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


def test_the_projection_of_clip_is_not_a_classifier():
    network = timm.create_model("vit_base_patch32_clip_224.openai", depth=1)
    assert network.head.out_features == 512
    with pytest.raises(TypeError, match="no classifier, as its head is CLIP's projection to 512 numbers"):
        explain(network, photograph())
    finetuned = timm.create_model("vit_base_patch32_clip_224.openai", depth=1, num_classes=7)
    assert explain(finetuned, photograph(), [3], refine=False)[3].shape == (40, 60)


@pytest.mark.parametrize(
    ("name", "options", "missing"),
    [
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1)}, "class token.*blocks with global attention"),
        ("vit_base_patch16_siglip_224", {"depth": 1, "num_classes": 5}, "class token.*pools the patches by attention"),
        ("vit_small_patch16_224", {"class_token": False, "global_pool": "avg", "depth": 1}, "class token"),
        ("resnet18", {}, "class token.*no transformer blocks.*no linear classifier"),
    ],
)
def test_the_missing_part_is_named(name, options, missing):
    with pytest.raises(TypeError, match=f"this network has no {missing}"):
        explain(timm.create_model(name, **options), photograph())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=5, depth=3)
    expected = explain(network, photograph(), [1], start_layer=0, refine=False)[1]
    found = explain(network.to(dtype), photograph(), [1], start_layer=0, refine=False)[1]
    assert found.dtype == torch.float32
    assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.98


def test_gradient_checkpointing():
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=5, depth=3)
    expected = explain(network, photograph(), [1], start_layer=0)[1]
    network.set_grad_checkpointing(True)
    network.train()  # only then do timm's networks use it
    assert torch.allclose(explain(network, photograph(), [1], start_layer=0)[1], expected, atol=1e-6)
    assert network.grad_checkpointing


def test_both_sides_of_the_input_count():
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=5, depth=2, img_size=(64, 96))
    found = explain(network, photograph(), [1], start_layer=0, refine=False)[1]
    resized = cv2.resize(photograph(), (96, 64), interpolation=cv2.INTER_LINEAR)
    images = (torch.from_numpy(resized).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    maps = activation_maps(network.eval(), images, torch.eye(5)[1:2], start_layer=0)[:, 1:2]
    assert maps.shape == (1, 1, 4, 6)
    expected = F.interpolate(maps, (40, 60), mode="bilinear", align_corners=False)[0, 0]
    assert torch.allclose(found, expected / expected.max(), atol=1e-5)


def test_networks_of_grey_images_are_refused():
    network = timm.create_model("vit_tiny_patch16_224", num_classes=5, depth=1, in_chans=1)
    with pytest.raises(ValueError, match="expected a network of RGB images, this one has 1 input channels"):
        explain(network, photograph())


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(photograph()).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run_explain(picture, *arguments):
    return main(["explain", str(picture), "--output", str(picture.parent / "out"), "--raw", *map(str, arguments)])


def test_a_network_finetuned_on_other_classes(picture):
    torch.manual_seed(0)
    network = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=19)
    torch.save({"model": network.state_dict()}, picture.parent / "w.pth")
    name = "deit_tiny_distilled_patch16_224"
    assert run_explain(picture, "--timm", name, "--checkpoint", picture.parent / "w.pth", "--classes", 18) == 0
    assert [path.name for path in (picture.parent / "out").iterdir()] == ["photo-class_18.png"]


def test_classes_of_one_name(picture, capsys, monkeypatch):
    """ImageNet has two cranes: the bird, 134, and the machine, 517."""
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False: create(name, depth=1))
    assert run_explain(picture, "--timm", "vit_tiny_patch16_224", "--classes", "crane") == 1
    assert "several classes are called 'crane'; name one by its index: 134 and 517" in capsys.readouterr().err
    assert run_explain(picture, "--timm", "vit_tiny_patch16_224", "--classes", 134, 517, 7) == 0
    names = {path.name for path in (picture.parent / "out").iterdir()}
    assert names == {"photo-crane_134.png", "photo-crane_517.png", "photo-cock.png"}


def test_errors_are_one_line(picture, capsys, monkeypatch):
    torch.save(timm.create_model("swin_tiny_patch4_window7_224").state_dict(), picture.parent / "w.pth")
    arguments = ["--timm", "swin_tiny_patch4_window7_224", "--checkpoint", picture.parent / "w.pth"]
    assert run_explain(picture, *arguments) == 1
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1
    assert printed[0].startswith("getam: error: TypeError: SwinTransformer: activation maps need")
    monkeypatch.setenv("GETAM_TRACEBACK", "1")
    with pytest.raises(TypeError):
        run_explain(picture, *arguments)
