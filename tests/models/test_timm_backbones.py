"""GETAM's network on transformers of timm: features, maps, positions, normalisation, and what is refused."""

import pytest
import safetensors.torch
import torch

from benchmarks.speed.naive import naive_maps
from getam import CheckpointError, activation_maps, build_model, load_network, normalise_images
from getam.config.backbone_specs import module_of
from getam.models.network import SegmentationNetwork
from getam.models.saving import save_network
from getam.models.timm_backbones import TimmBackbone
from getam.utils.provenance import modules_of_step
from tests.conftest import relative_error

import timm  # isort: skip (getam makes it importable beside a CPU build of torch)

# Positions for patches alone, relative and rotary positions, registers, and patches of every stride.
NAMES = [
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
    "beit_base_patch16_224",
    "eva02_tiny_patch14_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch8_224",
]
LABELS = torch.tensor([[1, 0, 1], [0, 1, 0]])


@pytest.fixture(scope="module", params=NAMES)
def backbone(request):
    torch.manual_seed(0)
    made = TimmBackbone(request.param, False).eval()
    with torch.no_grad():
        for block in made.vit.blocks:
            if (table := getattr(block.attn, "relative_position_bias_table", None)) is not None:
                table.normal_()  # timm begins with zeros
    return made


def test_the_tapped_features_are_timms(backbone):
    """The outputs of timm's own blocks, of a network that timm has made for images of this size.

    BEiT at the size of its weights: timm resizes relative positions otherwise.
    """
    vit, patch, stride = backbone.vit, backbone.patch, backbone.stride
    plain = timm.create_model(vit.pretrained_cfg["architecture"], num_classes=0).eval()
    state = vit.state_dict()
    names = {name: name if name in state else name.replace("fc_norm.", "norm.") for name in plain.state_dict()}
    plain.load_state_dict({theirs: state[ours] for theirs, ours in names.items()})
    height, width = (224, 224) if isinstance(vit, timm.models.Beit) else (64, 96)
    plain.set_input_size((height // stride * patch, width // stride * patch))
    images = torch.randn(1, 3, height, width)
    outputs = []
    hook = backbone.vit.patch_embed.register_forward_pre_hook(lambda module, inputs: outputs.append(inputs[0]))
    with torch.no_grad():
        features = backbone(images)
        hook.remove()
        expected = plain.forward_intermediates(
            outputs[0], list(backbone.tapped_blocks), output_fmt="NLC", intermediates_only=True
        )
    depth = len(vit.blocks)
    assert backbone.tapped_blocks == (depth // 4 - 1, depth // 2 - 1, 3 * depth // 4 - 1, depth - 1)
    for found, patches in zip(features.tokens, expected, strict=True):
        assert relative_error(found[:, vit.num_prefix_tokens :], patches) < 1e-4
    assert features.grid == (height // stride, width // stride)


def test_the_input_has_the_normalisation_of_the_weights(backbone):
    rgb = torch.randint(0, 256, (1, 3, 64, 96), generator=torch.Generator().manual_seed(1)).byte()
    seen = []
    hook = backbone.vit.patch_embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        features = backbone(normalise_images(rgb))
    hook.remove()
    described = backbone.vit.pretrained_cfg
    mean, std = (torch.tensor(described[key]).view(3, 1, 1) for key in ("mean", "std"))
    patch, stride = backbone.patch, backbone.stride
    assert seen[0].shape[-2:] == (64 // stride * patch, 96 // stride * patch)
    assert features.grid == (64 // stride, 96 // stride)
    expected = (rgb.float() / 255 - mean) / std
    if patch == stride:
        torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-5)
    else:
        assert abs(seen[0].mean() - expected.mean()) < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_shapes_gradients_and_maps(name):
    """A forward and backward that reach every parameter; maps equal to those of full attention matrices."""
    torch.manual_seed(0)
    for classifier in ("pooled", "class_token"):
        network = build_model(f"timm:{name}", 3, classifier=classifier, decoder_width=16)
        class_logits, seg_logits = network(torch.randn(2, 3, 64, 96))
        assert (class_logits.shape, seg_logits.shape) == ((2, 3), (2, 4, 64, 96))
        (class_logits.square().sum() + seg_logits.square().mean()).backward()
        assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    network, images = network.double().eval(), torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        network.vit.cls_token.normal_()
        for block in network.vit.blocks:
            if (table := getattr(block.attn, "relative_position_bias_table", None)) is not None:
                table.normal_()
    found, expected = activation_maps(network, images, LABELS), naive_maps(network, images, LABELS, start_layer=6)
    assert found.shape[2:] == (64 // network.backbone.stride, 96 // network.backbone.stride)
    assert relative_error(found, expected) < 1e-9


def test_relative_positions_are_resized_bilinearly():
    """Against a loop over pairs of patches: offsets of the largest distance stay the largest."""
    backbone = TimmBackbone("beit_base_patch16_224", False)
    attention = backbone.vit.blocks[0].attn
    table = attention.relative_position_bias_table
    with torch.no_grad():
        table.normal_()
    backbone._relative_grid = rows, columns = 3, 6
    bias = attention._get_rel_pos_bias()[0, 5].detach()
    plane = table.detach()[: 27 * 27, 5].view(27, 27).double()

    def at(offset, size):
        source = (offset + size - 1) * 26 / (2 * size - 2)
        low = min(int(source), 25)
        return low, source - low

    for i in range(rows * columns):
        for j in range(rows * columns):
            (y, v), (x, u) = at(i // columns - j // columns, rows), at(i % columns - j % columns, columns)
            top, bottom = (plane[line, x] * (1 - u) + plane[line, x + 1] * u for line in (y, y + 1))
            assert bias[i + 1, j + 1].item() == pytest.approx((top * (1 - v) + bottom * v).item(), abs=1e-4)
    to_patch, to_class, alone = table.detach()[-3:, 5].tolist()
    assert bias[0, 1:].tolist() == pytest.approx([to_patch] * 18)
    assert bias[1:, 0].tolist() == pytest.approx([to_class] * 18)
    assert bias[0, 0].item() == pytest.approx(alone)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_base_patch16_siglip_224", "GETAM cannot use it, as it has no class token"),
        ("vit_tiny_r_s16_p8_224", "expected a ViT, DeiT, BEiT, EVA or DINOv2"),
        ("swin_tiny_patch4_window7_224", "expected a ViT, DeiT, BEiT, EVA or DINOv2: GETAM needs a class token"),
        ("resnet18", "expected a ViT, DeiT, BEiT, EVA or DINOv2"),
        ("cait_xxs24_224", "expected a ViT, DeiT, BEiT, EVA or DINOv2"),
        ("vit_tinny_patch16_224", "timm has no model 'vit_tinny_patch16_224'; did you mean vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224.no_such_tag", "timm:vit_tiny_patch16_224.no_such_tag: .*no_such_tag"),
    ],
)
def test_what_is_refused(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        build_model(f"timm:{name}", 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "beit_base_patch16_224", "vit_base_patch16_224.augreg_in21k"])
def test_weights_from_a_file(tmp_path, name):
    """As timm publishes them: with the classifier of ImageNet, and for pooled patches with `fc_norm`."""
    torch.manual_seed(0)
    published = timm.create_model(name).state_dict()
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(published, path)
    network = build_model(f"timm:{name}", 3, path, classifier="class_token", decoder_width=8)
    for parameter, value in network.vit.state_dict().items():
        source = parameter if parameter in published else parameter.replace("norm.", "fc_norm.", 1)
        assert torch.equal(value, published[source]), parameter


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(timm.create_model("deit_tiny_distilled_patch16_224").state_dict(), path)
    with pytest.raises(
        CheckpointError, match=r"weights\.safetensors does not fit timm:deit3_small_patch16_224: "
    ) as caught:
        build_model("timm:deit3_small_patch16_224", 3, path)
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"no weight file .*none\.pth"):
        build_model("timm:deit3_small_patch16_224", 3, tmp_path / "none.pth")


def test_a_saved_network_comes_back(tmp_path):
    arguments = {"backbone": "timm:vit_small_patch14_reg4_dinov2", "decoder_width": 8}
    network = build_model(num_classes=2, **arguments).eval()
    save_network(tmp_path / "w.safetensors", network, ("a", "b"), {}, **arguments)
    again, classes = load_network(tmp_path / "w.safetensors")
    assert isinstance(again, SegmentationNetwork)
    assert classes == ("a", "b")
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(images)[1], network(images)[1])


def test_an_edit_here_makes_no_named_backbone_stale():
    own = module_of("timm:vit_tiny_patch16_224")
    assert own not in modules_of_step("getam.training.launch", "getam.evaluation.prediction", "getam.models.saving")
    assert module_of("vit_tiny") is None
