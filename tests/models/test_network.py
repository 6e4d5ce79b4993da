"""The network's shapes, its settings, and what it refuses."""

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from getam import CheckpointError, build_model
from getam.config.backbone_specs import BACKBONES, backbone_spec
from getam.models.backbones import Backbone
from tests.conftest import relative_error


@pytest.mark.parametrize("classifier", ["pooled", "class_token"])
@pytest.mark.parametrize("backbone", ["vit_tiny", "vit_micro_hybrid"])
def test_shapes(backbone, classifier):
    network = build_model(backbone, 7, classifier=classifier, decoder_width=24).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        class_logits, seg_logits = network(images)
        assert class_logits.shape == (2, 7)
        assert seg_logits.shape == (2, 8, 64, 96)
        assert torch.equal(network.classify(images), class_logits)


@pytest.mark.parametrize("classifier", ["pooled", "class_token"])
@pytest.mark.parametrize("backbone", ["vit_tiny", "vit_micro_hybrid"])
def test_every_parameter_has_a_gradient(backbone, classifier):
    network = build_model(backbone, 3, classifier=classifier, decoder_width=16)
    class_logits, seg_logits = network(torch.randn(2, 3, 64, 64))
    (class_logits.square().sum() + seg_logits.square().mean()).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_coco_and_decoder_width():
    network = build_model("vit_tiny", 80, decoder_width=8).eval()
    with torch.no_grad():
        class_logits, seg_logits = network(torch.randn(1, 3, 32, 32))
    assert (class_logits.shape, seg_logits.shape) == ((1, 80), (1, 81, 32, 32))


@pytest.mark.parametrize("shape", [(1, 3, 100, 96), (1, 3, 96, 80), (1, 3, 0, 32)])
def test_sides_must_be_multiples_of_32(shape):
    with pytest.raises(ValueError, match=rf"sides must be multiples of 32, got {shape[2]} x {shape[3]} \(H x W\)"):
        build_model("vit_micro_hybrid", 2)(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64)])
def test_images_must_be_rgb_batches(shape):
    with pytest.raises(ValueError, match=r"images: expected shape \(B, 3, H, W\)"):
        build_model("vit_micro_hybrid", 2)(torch.zeros(shape))


def test_bad_settings():
    with pytest.raises(ValueError, match="unknown backbone 'resnet'; known are vitb_hybrid, vitb"):
        build_model("resnet", 20)
    with pytest.raises(ValueError, match="num_classes: expected at least 1, got 0"):
        build_model("vit_tiny", 0)
    with pytest.raises(ValueError, match="decoder_width: expected at least 1, got 0"):
        build_model("vit_tiny", 20, decoder_width=0)
    with pytest.raises(ValueError, match="classifier: expected 'pooled' or 'class_token', got 'cls'"):
        build_model("vit_tiny", 20, classifier="cls")
    with pytest.raises(ValueError, match="weight_standardisation: expected 'released' or 'paper', got 'timm'"):
        build_model("vit_tiny", 20, weight_standardisation="timm")
    with pytest.raises(TypeError, match="pretrained: expected True, False or a path, got None"):
        build_model("vit_tiny", 20, pretrained=None)
    with pytest.raises(ValueError, match="vit_micro_hybrid is trained from scratch"):
        build_model("vit_micro_hybrid", 20, pretrained=True)


def test_position_embedding_is_resized_bilinearly_and_prefix_kept():
    """Against a loop over the target grid: half-pixel centres, edges clamped."""
    backbone = Backbone(backbone_spec("vit_tiny"), False, "paper")
    stored = backbone.vit.pos_embed.detach().double()
    prefix, squares = stored[0, :1], stored[0, 1:].unflatten(0, (14, 14))
    rows, columns = 6, 20

    def at(target, size):
        source = min(max((target + 0.5) * 14 / size - 0.5, 0), 13)
        low = min(int(source), 12)
        return low, source - low

    expected = torch.empty(rows, columns, 192, dtype=torch.float64)
    for row in range(rows):
        for column in range(columns):
            (y, v), (x, u) = at(row, rows), at(column, columns)
            top = squares[y, x] * (1 - u) + squares[y, x + 1] * u
            bottom = squares[y + 1, x] * (1 - u) + squares[y + 1, x + 1] * u
            expected[row, column] = top * (1 - v) + bottom * v
    found = backbone._position_embedding((rows, columns))[0]
    assert torch.equal(found[:1].double(), prefix)
    assert relative_error(found[1:], expected.flatten(0, 1)) < 1e-5


@pytest.mark.parametrize("name", ["vit_tiny", "vitb_hybrid"])
def test_equals_timm_at_the_stored_size(name):
    """The tapped tokens are timm's own blocks' outputs, and with timm's standardisation the stages are timm's too."""
    torch.manual_seed(0)
    backbone = Backbone(backbone_spec(name), False, "paper").eval()
    side = backbone.vit.patch_embed.img_size[0]
    images = torch.randn(1, 3, side, side)
    with torch.no_grad():
        features = backbone(images)
        expected = backbone.vit.forward_intermediates(
            images, indices=list(backbone.tapped_blocks), output_fmt="NLC", intermediates_only=True
        )
        stages = []
        for stage in backbone.vit.patch_embed.backbone.stages[:2] if features.stages else []:
            stages.append(stage(stages[-1] if stages else backbone.vit.patch_embed.backbone.stem(images)))
    for found, timms in zip([t[:, 1:] for t in features.tokens] + features.stages, expected + stages, strict=True):
        assert relative_error(found, timms) < 1e-5


def test_weight_standardisation_formulas():
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    released, papers = (Backbone(backbone_spec("vitb_hybrid"), False, side).eval() for side in ("released", "paper"))
    papers.load_state_dict(released.state_dict())
    with torch.no_grad():
        error = relative_error(released(images).stages[1], papers(images).stages[1])
        conv = released.vit.patch_embed.backbone.stages[1].blocks[1].conv2
        weight = conv.weight.double()
        mean, std = weight.mean((1, 2, 3), keepdim=True), weight.std((1, 2, 3), correction=0, keepdim=True)
        x = torch.randn(1, conv.in_channels, 8, 8, generator=torch.Generator().manual_seed(1))
        expected = F.conv2d(x.double(), (weight - mean) / (std + 1e-5), padding=1)
        assert relative_error(conv(x), expected) < 1e-5
    assert 1e-6 < error < 1e-2


def test_start_layers():
    assert {name for name, spec in BACKBONES.items() if spec.paper_start_layer} == {"vitb_hybrid"}
    for name in ("vit_tiny", "vit_micro_hybrid"):
        assert len(build_model(name, 1).vit.blocks) == BACKBONES[name].depth


@pytest.fixture(scope="module")
def timm_weights():
    """A file's content as timm publishes it: with the 1000-class head and the final norm."""
    state = build_model("vit_tiny", 2, classifier="class_token").vit.state_dict()
    return {**state, "head.weight": torch.zeros(1000, 192), "head.bias": torch.zeros(1000)}


@pytest.mark.parametrize("wrapper", [None, "model"])
@pytest.mark.parametrize("classifier", ["pooled", "class_token"])
def test_pretrained_from_a_file(tmp_path, timm_weights, classifier, wrapper):
    path = tmp_path / ("weights.pth" if wrapper else "weights.safetensors")
    if wrapper:
        torch.save({wrapper: timm_weights}, path)
    else:
        safetensors.torch.save_file(timm_weights, path)
    network = build_model("vit_tiny", 20, pretrained=str(path), classifier=classifier)
    for name, parameter in network.vit.state_dict().items():
        assert torch.equal(parameter, timm_weights[name]), name


def test_pretrained_of_another_model(tmp_path, timm_weights):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(timm_weights, path)
    with pytest.raises(CheckpointError, match=r"weights.safetensors does not fit: it .*differs in shape: cls_token"):
        build_model("vitb", 20, pretrained=path)
    with pytest.raises(FileNotFoundError, match=r"no weight file .*missing\.pth"):
        build_model("vit_tiny", 20, pretrained=tmp_path / "missing.pth")
    renamed = {name.replace("blocks.3.", "layers.3."): value for name, value in timm_weights.items()}
    safetensors.torch.save_file(renamed, path)
    with pytest.raises(
        CheckpointError, match=r"lacks blocks\.3\..* and 8 more; it holds unknown layers\.3\..* and 8 more"
    ):
        build_model("vit_tiny", 20, pretrained=path)
