"""Activation maps against full matrices in float64, and what must hold of them whatever their values."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.speed.naive import naive_maps
from getam import ActivationRecord, activation_maps, build_model, load_recipe
from getam.config.choices import METHODS
from tests.conftest import relative_error

import timm  # isort: skip (getam makes it importable beside a CPU build of torch)

CLASSES = 5
LABELS = torch.tensor([[1, 0, 1, 0, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 1, 0, 1, 0]])


@pytest.fixture(scope="module", params=["pooled", "class_token"])
def network(request):
    """The demo's small network in float64, with weights large enough for its attention not to be flat."""
    return small_network(request.param)


def small_network(classifier: str) -> torch.nn.Module:
    torch.manual_seed(1)
    network = build_model("vit_micro_hybrid", CLASSES, classifier=classifier, decoder_width=8).double().eval()
    with torch.no_grad():
        for block in network.vit.blocks:
            block.attn.qkv.weight.mul_(15)
        network.vit.cls_token.normal_()
    return network


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("heads", ["released", "paper"])
@pytest.mark.parametrize("start_layer", [0, 2])
@pytest.mark.parametrize("method", ["getam", "attention_gradient", "grad_cam", "rollout", "transformer_attribution"])
def test_methods_equal_full_matrices(network, images, method, start_layer, heads):
    found = activation_maps(network, images, LABELS, method, start_layer, heads=heads)
    expected = naive_maps(network, images, LABELS, method, start_layer, heads=heads)
    assert found.shape == (4, CLASSES, 8, 12)
    assert found.dtype == torch.float64
    assert relative_error(found, expected) < 1e-10


@pytest.mark.parametrize("fusion", ["product", "matmul"])
@pytest.mark.parametrize("method", ["getam", "attention_gradient", "grad_cam"])
def test_fusions_equal_full_matrices_up_to_a_factor(network, images, method, fusion):
    found = activation_maps(network, images, LABELS, method, start_layer=1, fusion=fusion)
    expected = naive_maps(network, images, LABELS, method, start_layer=1, fusion=fusion)
    seen = expected.flatten(2).any(2)
    assert torch.equal(found.flatten(2).any(2), seen)  # a block without evidence leaves a product of zero
    assert seen.sum() >= 4
    for ours, theirs in zip(found[seen], expected[seen], strict=True):
        assert relative_error(ours / ours.max(), theirs / theirs.max()) < 1e-10


def test_matmul_takes_rows_in_pieces(images, monkeypatch):
    monkeypatch.setattr("getam.method.activation._ROWS", 7)
    network = small_network("class_token")
    found = activation_maps(network, images, LABELS, "transformer_attribution")
    assert relative_error(found, naive_maps(network, images, LABELS, "transformer_attribution")) < 1e-10


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_a_recipe_decides_blocks_and_heads(preset):
    torch.manual_seed(0)
    network, recipe = build_model("vit_tiny", CLASSES).double().eval(), load_recipe(preset)
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    start_layer = recipe.first_block("vit_tiny")
    found = activation_maps(network, images, LABELS[:1], start_layer=start_layer, heads=recipe.heads)
    expected = naive_maps(network, images, LABELS[:1], start_layer={"released": 6, "paper": 0}[preset], heads=preset)
    assert relative_error(found, expected) < 1e-10


def test_product_of_many_blocks_stays_in_float32():
    torch.manual_seed(0)
    network = build_model("vit_tiny", CLASSES).eval()
    maps = activation_maps(network, torch.randn(1, 3, 64, 64), LABELS[:1], fusion="product", start_layer=0)
    assert (maps[LABELS[:1] > 0].amax((1, 2)) > 1e-30).all()


def test_cam_pooled_is_the_classifier_at_each_position(images):
    network = small_network("pooled")
    taps = []
    network.reassemble["4"].register_forward_hook(lambda module, inputs, output: taps.append(output))
    found = activation_maps(network, images, LABELS, "cam")
    evidence = torch.einsum("bdhw,cd->bchw", taps[0], network.classifier.linear.weight)
    # The classifier is linear: the evidence's mean and the bias are the logits.
    logits = evidence.mean((2, 3)) + network.classifier.linear.bias
    assert relative_error(network.classify(images), logits) < 1e-12
    coarse = evidence.relu() * LABELS[:, :, None, None]
    expected = corner_to_corner(8, 2) @ coarse @ corner_to_corner(12, 3).T
    assert relative_error(found, expected) < 1e-12


def corner_to_corner(size: int, coarse: int) -> torch.Tensor:
    """Linear interpolation between `coarse` points that keeps the ends (align_corners=True), as a matrix."""
    position = torch.arange(size, dtype=torch.float64) * (coarse - 1) / (size - 1)
    return (1 - (position[:, None] - torch.arange(coarse)).abs()).clamp_min(0)


def test_cam_class_token_reads_the_patch_tokens(images):
    network = small_network("class_token")
    tokens = network.vit.norm(network.backbone(images).tokens[-1])
    expected = torch.einsum("bnd,cd->bcn", tokens[:, 1:], network.classifier.linear.weight).relu()
    found = activation_maps(network, images, LABELS, "cam")
    assert relative_error(found, (expected * LABELS[:, :, None]).unflatten(2, (8, 12))) < 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_maps_do_not_depend_on_the_batch(network, images, method):
    together = activation_maps(network, images, LABELS, method)
    order = torch.tensor([2, 0, 3, 1])
    assert relative_error(activation_maps(network, images[order], LABELS[order], method), together[order]) < 1e-10
    for i in range(4):
        alone = activation_maps(network, images[i : i + 1], LABELS[i : i + 1], method)
        assert (alone - together[i]).abs().max() <= 1e-10 * together.max()


@pytest.mark.parametrize("method", METHODS)
def test_zero_where_no_label(network, images, method):
    maps = activation_maps(network, images, LABELS, method)
    assert maps.min() >= 0
    assert not maps[LABELS == 0].any()
    seen = maps[LABELS == 1].flatten(1).any(1)
    assert seen.any() if method == "cam" else seen.all()  # CAM's evidence can be negative everywhere
    assert not maps.requires_grad
    assert not activation_maps(network, images, torch.zeros_like(LABELS), method).any()


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind(images, fails):
    network = small_network("pooled")
    network.vit.pos_embed.requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    if fails:
        with pytest.raises(ValueError, match="multiples of 32"):
            activation_maps(network, images[..., :50], LABELS)
    else:
        activation_maps(network, images, LABELS)
    assert {name: parameter.requires_grad for name, parameter in network.named_parameters()} == before
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("shared", [False, True])
def test_one_backward_per_rank_and_none_for_weights(network, images, monkeypatch, shared):
    """Six pairs, at most three in an image: three backward passes, each asking for attention outputs alone."""
    asked = []
    grad = torch.autograd.grad
    monkeypatch.setattr("torch.autograd.grad", lambda y, x, **options: asked.append(x) or grad(y, x, **options))
    if shared:
        record = ActivationRecord(network, start_layer=1)
        with record:
            class_logits, _ = network(images)
        record.maps(class_logits, LABELS)
    else:
        activation_maps(network, images, LABELS, start_layer=1)
    assert len(asked) == 3
    assert all(len(inputs) == 3 for inputs in asked)
    assert all(tuple(y.shape) == (4, 3, 97, 32) for inputs in asked for y in inputs)


def test_blocks_below_start_layer_have_no_graph(network, images):
    inputs = []
    hooks = [b.register_forward_hook(lambda module, x, y: inputs.append(y.requires_grad)) for b in network.vit.blocks]
    activation_maps(network, images, LABELS, start_layer=2)
    for hook in hooks:
        hook.remove()
    assert inputs == [False, False, True, True]


@pytest.mark.parametrize("method", ["cam", "rollout"])
def test_methods_without_gradient_have_no_graph(network, images, method):
    outputs = []
    hook = network.classifier.register_forward_hook(lambda module, x, y: outputs.append(y.requires_grad))
    activation_maps(network, images, LABELS, method)
    hook.remove()
    assert outputs == [False]


def test_record_can_be_entered_again(network, images):
    record = ActivationRecord(network)
    for part in (slice(0, 2), slice(2, 4)):
        with record:
            class_logits, _ = network(images[part])
        maps = record.maps(class_logits, LABELS[part])
        assert relative_error(maps, activation_maps(network, images[part], LABELS[part])) < 1e-10


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_without_grad_mode(network, images, mode):
    expected = activation_maps(network, images, LABELS)
    with mode():
        assert torch.equal(activation_maps(network, images.clone(), LABELS), expected)


def test_maps_share_the_forward_with_the_losses(network, images):
    """In the joint phase: one forward, maps equal to those of a forward of their own, and the losses' graph intact."""
    expected = activation_maps(network, images, LABELS)
    forwards = []
    hook = network.backbone.register_forward_hook(lambda *call: forwards.append(1))
    record = ActivationRecord(network)
    with record:
        class_logits, seg_logits = network(images)
    maps = record.maps(class_logits, LABELS)
    assert relative_error(maps, expected) < 1e-10
    assert not maps.requires_grad
    gradients = torch.autograd.grad(class_logits.sum() + seg_logits.square().mean(), list(network.parameters()))
    with torch.no_grad():
        hook.remove()
    assert len(forwards) == 1
    plain_class, plain_seg = network(images)
    plain = torch.autograd.grad(plain_class.sum() + plain_seg.square().mean(), list(network.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(gradients, plain, strict=True))


@pytest.mark.parametrize("method", ["getam", "grad_cam", "rollout", "cam"])
def test_autocast(images, method):
    torch.manual_seed(0)
    network = build_model("vit_tiny", CLASSES).eval()
    images = images.float()
    expected = activation_maps(network, images, LABELS, method)
    with torch.autocast("cpu", torch.bfloat16):
        maps = activation_maps(network, images, LABELS, method)
        assert network.classify(images).dtype == torch.bfloat16
    assert maps.dtype == torch.float32
    error = (maps - expected).norm() / expected.norm()
    assert 1e-6 < error < 0.05  # not the same computation, and near it


# With two prefix tokens, positions for patches alone, relative positions, rotary positions.
@pytest.mark.parametrize(
    "name",
    [
        "deit_tiny_distilled_patch16_224",
        "deit3_small_patch16_224",
        "beit_base_patch16_224",
        "eva02_tiny_patch14_224",
    ],
)
def test_any_timm_transformer(name):
    torch.manual_seed(0)
    vit = timm.create_model(name, num_classes=3, depth=2).double().eval()
    images = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    labels = torch.tensor([[1, 0, 1], [0, 1, 0]])
    found = activation_maps(vit, images, labels)
    expected = naive_maps(vit, images, labels)
    assert relative_error(found, expected) < 1e-10
    assert activation_maps(vit, images, labels, "cam").shape == found.shape


def test_query_normalisation_is_seen():
    torch.manual_seed(0)
    vit = timm.models.VisionTransformer(
        img_size=32,
        patch_size=4,
        embed_dim=32,
        depth=2,
        num_heads=2,
        num_classes=3,
        qk_norm=True,
        reg_tokens=2,
    )
    vit = vit.double().eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    labels = torch.ones(2, 3)
    assert relative_error(activation_maps(vit, images, labels), naive_maps(vit, images, labels)) < 1e-10


_MEMORY = """
import torch, getam, timm
from getam.utils.hardware import peak_resident
def grown(side, **options):
    torch.manual_seed(0)
    vit = timm.models.VisionTransformer(img_size=side, patch_size=1, embed_dim=16, depth=2, num_heads=1, num_classes=2)
    images, labels = torch.randn(1, 3, side, side), torch.ones(1, 2)
    before = peak_resident()
    getam.activation_maps(vit.eval(), images, labels, **options)
    return peak_resident() - before
grown(8, **OPTIONS)
print(grown(48, **OPTIONS), grown(96, **OPTIONS))
"""


@pytest.mark.parametrize("options", [{}, {"fusion": "matmul"}, {"method": "transformer_attribution"}])
def test_memory_grows_linearly_with_the_tokens(options):
    """9,216 tokens: one attention matrix alone is 324 MiB. In a process of its own, as a process keeps its peak."""
    command = [sys.executable, "-W", "ignore", "-c", _MEMORY.replace("OPTIONS", repr(options))]
    root = Path(__file__).parents[2]
    printed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    of_2304, of_9216 = map(float, printed.stdout.split())
    assert of_9216 < 4 * max(of_2304, 25)


def test_bad_arguments(network, images):
    with pytest.raises(ValueError, match="method: expected one of getam, .* got 'gradcam'"):
        activation_maps(network, images, LABELS, "gradcam")
    with pytest.raises(ValueError, match="fusion: expected one of sum, product, matmul"):
        activation_maps(network, images, LABELS, fusion="mean")
    with pytest.raises(ValueError, match="heads: expected one of released, paper"):
        activation_maps(network, images, LABELS, heads="mean")
    with pytest.raises(ValueError, match="start_layer: expected 0 to 3, got 4"):
        activation_maps(network, images, LABELS, start_layer=4)
    with pytest.raises(ValueError, match=r"labels: expected a row for each of 4 images, got 3"):
        activation_maps(network, images, LABELS[:3])
    with pytest.raises(ValueError, match="start_layer: expected 0 to 3, got 1.5"):
        activation_maps(network, images, LABELS, start_layer=1.5)
    with pytest.raises(TypeError, match=r"DataParallel: .* its `module`"):
        activation_maps(torch.nn.DataParallel(network), images, LABELS)
    with pytest.raises(ValueError, match=r"labels: expected shape \(4, 5\), got \(4, 4\)"):
        activation_maps(network, images, LABELS[:, :4])
    with pytest.raises(ValueError, match="rollout has its own fusion"):
        activation_maps(network, images, LABELS, "rollout", fusion="product")


def test_networks_without_class_token_attention(images):
    network = small_network("pooled")
    with pytest.raises(TypeError, match="need a SegmentationNetwork or a timm vision transformer"):
        activation_maps(timm.create_model("resnet18"), images.float(), LABELS)
    record, logits = ActivationRecord(network), network.classify(images)
    with pytest.raises(
        ValueError, match="0 attentions were recorded in 4 blocks: maps need one forward inside the record"
    ):
        record.maps(logits, LABELS)
    network.vit.blocks[1].attn.fused_attn = False
    with pytest.raises(ValueError, match="3 attentions were recorded in 4 blocks"):
        activation_maps(network, images, LABELS)


def test_record_without_a_graph(network, images):
    record = ActivationRecord(network)
    with record, torch.no_grad():
        class_logits = network.classify(images)
    with pytest.raises(ValueError, match="class_logits: the recorded forward has no graph"):
        record.maps(class_logits, LABELS)
    with record:
        pass
    with pytest.raises(ValueError, match="0 attentions were recorded"):
        record.maps(class_logits, LABELS)


def test_cam_of_an_earlier_forward_is_not_taken(network, images):
    record = ActivationRecord(network, "cam")
    with record:
        class_logits = network.classify(images)
    record.maps(class_logits, LABELS)
    with record:
        pass
    with pytest.raises(ValueError, match="no forward of the network ran inside the record"):
        record.maps(class_logits, LABELS)


def test_cam_of_a_plain_timm_transformer():
    """Distilled: the mean of both heads, at every patch. The evidence of all tokens and the biases give the logits."""
    torch.manual_seed(0)
    vit = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=3, depth=2).double().eval()
    images, labels = torch.randn(2, 3, 224, 224, dtype=torch.float64), torch.ones(2, 3)
    record = ActivationRecord(vit, "cam")
    with record:
        class_logits = vit(images)
    tokens = vit.forward_features(images)
    expected = (vit.head(tokens) - vit.head.bias + vit.head_dist(tokens) - vit.head_dist.bias)[:, 2:] / 2
    for found in (record.maps(class_logits, labels), activation_maps(vit, images, labels, "cam")):
        assert relative_error(found, expected.transpose(1, 2).unflatten(2, (14, 14)).relu()) < 1e-12


def test_bfloat16_network(images):
    torch.manual_seed(0)
    network = build_model("vit_tiny", CLASSES).eval()
    for method in METHODS:
        expected = activation_maps(network.float(), images.float(), LABELS, method)
        maps = activation_maps(network.bfloat16(), images.bfloat16(), LABELS, method)
        assert maps.dtype == torch.float32
        assert (maps - expected).norm() / expected.norm() < 0.1, method


def test_empty_batch(network, images):
    for method in METHODS:
        assert activation_maps(network, images[:0], LABELS[:0], method).shape == (0, CLASSES, 8, 12)


@pytest.mark.parametrize("backbone", ["vit_tiny", "vit_micro_hybrid"])
def test_fused_attention_stays_on(backbone):
    assert all(block.attn.fused_attn for block in build_model(backbone, CLASSES).vit.blocks)
