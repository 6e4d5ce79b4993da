"""DeepLab v2 against a plain construction of the same weights in float64, and what it is refused for."""

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from getam import CheckpointError, activation_maps, build_model, load_network
from getam.config.backbone_specs import module_of
from getam.models.deeplab import DeepLabV2
from getam.models.saving import save_network
from getam.utils.provenance import modules_of_step
from tests.conftest import relative_error

CLASSES = 3


def random_statistics(network):
    """BatchNorm with statistics that matter, and branches that do not vanish."""
    chance = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bn1.bias", "bn2.bias", "bn3.bias")):
            value.copy_(0.1 * torch.randn(value.shape, generator=chance))
        elif name.endswith(("running_var", "bn1.weight", "bn2.weight")):
            value.copy_(0.8 + 0.4 * torch.rand(value.shape, generator=chance))
        elif name.endswith("bn3.weight"):
            value.copy_(0.2 * torch.rand(value.shape, generator=chance))
        elif name.startswith("classifier") and name.endswith("bias"):
            value.copy_(torch.randn(value.shape, generator=chance))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = build_model("deeplab_v2", CLASSES).eval()
    with torch.no_grad():
        random_statistics(made)
    return made


def plain_scores(state, images):
    """The four convolutions on ResNet-101 with output stride 8, written down from its definition."""

    def normalised(x, name):
        mean, variance, weight, bias = (
            state[f"backbone.{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        shape = (1, -1, 1, 1)
        scaled = (x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
        return scaled * weight.view(shape) + bias.view(shape)

    def convolved(x, name, stride=1, padding=0, dilation=1):
        return F.conv2d(x, state[f"backbone.{name}.weight"], None, stride, padding, dilation)

    x = normalised(convolved(images, "conv1", 2, 3), "bn1").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    # Stages 3 and 4 have no stride; their 3x3 convolutions are dilated, the first by the rate of the stage before.
    for stage, blocks, stride, first, others in ((1, 3, 1, 1, 1), (2, 4, 2, 1, 1), (3, 23, 1, 1, 2), (4, 3, 1, 2, 4)):
        for block in range(blocks):
            name, rate, step = f"layer{stage}.{block}", others if block else first, 1 if block else stride
            y = normalised(convolved(x, f"{name}.conv1"), f"{name}.bn1").relu()
            y = normalised(convolved(y, f"{name}.conv2", step, rate, rate), f"{name}.bn2").relu()
            y = normalised(convolved(y, f"{name}.conv3"), f"{name}.bn3")
            if block == 0:
                x = normalised(convolved(x, f"{name}.downsample.0", step), f"{name}.downsample.1")
            x = (x + y).relu()
    return sum(
        F.conv2d(x, state[f"classifier.{i}.weight"], state[f"classifier.{i}.bias"], 1, rate, rate)
        for i, rate in enumerate((6, 12, 18, 24))
    )


def interpolation(size, coarse):
    """Linear interpolation between `coarse` points that keeps the ends, as a matrix."""
    position = torch.arange(size, dtype=torch.float64) * (coarse - 1) / (size - 1)
    return (1 - (position[:, None] - torch.arange(coarse)).abs()).clamp_min(0)


def resized(x, size):
    rows, columns = (interpolation(new, old) for new, old in zip(size, x.shape[-2:], strict=True))
    return rows @ x @ columns.T


def test_forward_is_that_of_a_plain_float64_construction(network):
    images = torch.randn(2, 3, 65, 97, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        class_logits, seg_logits = network(images)
        scales = network.scales(images)
    state = {name: value.double() for name, value in network.state_dict().items()}
    expected = [plain_scores(state, resized(images.double(), size)) for size in ((65, 97), (49, 73), (33, 49))]
    assert [tuple(scores.shape[-2:]) for scores in expected] == [(9, 13), (7, 10), (5, 7)]
    expected.append(torch.stack([resized(scores, (9, 13)) for scores in expected]).amax(0))
    for found, scores in zip(scales, expected, strict=True):
        assert relative_error(found, scores) < 1e-4
    assert relative_error(seg_logits, resized(expected[-1], (65, 97))) < 1e-4
    assert torch.equal(class_logits, seg_logits[:, 1:].amax((2, 3)))
    with torch.no_grad():
        assert torch.equal(network.classify(images), class_logits)


def test_the_maximum_is_of_three_different_scales(network):
    """Each scale gives some of it, on images as large as the published crop."""
    with torch.no_grad():
        *scales, maximum = network.scales(torch.randn(1, 3, 321, 321, generator=torch.Generator().manual_seed(3)))
    assert [scale.shape[-1] for scale in scales] == [41, 31, 21]
    sizes = [F.interpolate(scale, (41, 41), mode="bilinear", align_corners=True) for scale in scales]
    for resized_scale in sizes:
        assert (resized_scale <= maximum).all()
        assert 0.02 < (resized_scale == maximum).float().mean() < 0.95


def test_gradients_reach_every_parameter_that_is_trained():
    network = build_model("deeplab_v2", 2).train()
    losses = [scores.square().mean() for scores in network.scales(torch.randn(2, 3, 33, 33))]
    sum(losses).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory, network):
    """As torchvision publishes it: with a classifier of 1,000 classes and without counts of batches."""
    path = tmp_path_factory.mktemp("weights") / "resnet101-63fe2227.pth"
    state = {n: v for n, v in network.backbone.state_dict().items() if not n.endswith("num_batches_tracked")}
    torch.save({**state, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, path)
    return path


def test_weights_from_a_file_and_frozen_statistics(network, torchvision_file):
    torch.manual_seed(5)
    loaded = build_model("deeplab_v2", CLASSES, torchvision_file).train()
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(loaded.backbone.state_dict()[name], value), name
    trained = {name for name, parameter in loaded.named_parameters() if parameter.requires_grad}
    assert not any("bn" in name or "downsample.1" in name for name in trained)
    assert len(trained) == 104 + 8  # convolutions of ResNet-101; weights and biases of the classifier
    before = [buffer.clone() for buffer in loaded.buffers()]
    loaded(torch.randn(2, 3, 33, 33))
    assert all(torch.equal(a, b) for a, b in zip(before, loaded.buffers(), strict=True))
    # Without pretrained weights the statistics are learnt.
    free = build_model("deeplab_v2", CLASSES).train()
    assert all(parameter.requires_grad for parameter in free.parameters())
    assert free.backbone.bn1.training
    for convolution in loaded.classifier:
        assert 0.0099 < convolution.weight.std() < 0.0101
        assert not convolution.bias.any()


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors does not fit: it lacks conv1\.weight"):
        build_model("deeplab_v2", 3, path)
    with pytest.raises(TypeError, match="pretrained: expected True, False or a path"):
        build_model("deeplab_v2", 3, pretrained=None)


def test_a_saved_network_comes_back(network, tmp_path):
    save_network(tmp_path / "w.safetensors", network, ("a", "b", "c"), {}, backbone="deeplab_v2")
    again, _ = load_network(tmp_path / "w.safetensors")
    images = torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        assert torch.equal(again(images)[1], network(images)[1])


def test_it_has_no_maps(network):
    with pytest.raises(
        TypeError, match="DeepLabV2: activation maps need a SegmentationNetwork or a timm vision"
    ) as caught:
        activation_maps(network, torch.randn(1, 3, 64, 64), torch.ones(1, CLASSES))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 3, 31, 64), (3, 64, 64), (1, 4, 64, 64)])
def test_images_of_other_shapes(network, shape):
    with pytest.raises(ValueError, match=r"images: expected shape \(B, 3, H, W\) with sides from 32"):
        network(torch.zeros(shape))


def test_an_edit_here_makes_no_other_network_stale():
    assert module_of("deeplab_v2") == DeepLabV2.__module__
    steps = ("training.launch", "training.supervised", "evaluation.prediction", "models.saving")
    assert DeepLabV2.__module__ not in modules_of_step(*(f"getam.{step}" for step in steps))
