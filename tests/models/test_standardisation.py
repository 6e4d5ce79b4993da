"""The released weight standardisation, alone and together, against its formula differentiated by autograd."""

import pytest
import torch
from torch import nn

from getam.config.backbone_specs import backbone_spec
from getam.models.backbones import Backbone
from getam.models.standardisation import (
    ReleasedStdConv2dSame,
    _Standardise,
    standardised_together,
    use_released_standardisation,
)


def formula(weight):
    mean, std = weight.mean((1, 2, 3), keepdim=True), weight.std((1, 2, 3), correction=0, keepdim=True)
    return (weight - mean) / (std + 1e-5)


def weights(*shape, count=3):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(count)]


def test_gradients():
    assert torch.autograd.gradcheck(_Standardise.apply, weights(4, 3, 2, 2))


def test_a_std_of_the_size_of_epsilon():
    """There the derivative of s = std + 1e-5 and that of sqrt(var + epsilon) differ."""
    (weight,) = (w.detach().mul(1e-5).requires_grad_() for w in weights(4, 3, 2, 2, count=1))
    factors = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = torch.autograd.grad((_Standardise.apply(weight)[0] * factors).sum(), weight)[0]
    expected = torch.autograd.grad((formula(weight) * factors).sum(), weight)[0]
    assert torch.allclose(found, expected, rtol=1e-10)


def test_constant_weights_become_zero_and_have_a_finite_gradient():
    weight = torch.full((2, 3, 1, 1), 0.25, requires_grad=True)
    (y,) = _Standardise.apply(weight)
    assert not y.any()
    (y * torch.arange(6).view(2, 3, 1, 1)).sum().backward()
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_together_equals_one_by_one(memory_format):
    torch.manual_seed(0)
    network = nn.Sequential(
        *(ReleasedStdConv2dSame(i, o, k) for i, o, k in ((3, 4, 3), (4, 4, 3), (4, 4, 3), (4, 2, 1)))
    )
    network = network.to(memory_format=memory_format)
    images = torch.randn(2, 3, 8, 8).contiguous(memory_format=memory_format)
    results = []
    for together in (False, True):
        network.zero_grad()
        with standardised_together(network if together else []):
            outputs = network(images)
        outputs.square().sum().backward()
        results.append([outputs, *(parameter.grad for parameter in network.parameters())])
        assert all(convolution.standardised is None for convolution in network)
    for one, all_at_once in zip(*results, strict=True):
        assert torch.equal(one, all_at_once)
        assert one.stride() == all_at_once.stride()


def test_the_layout_of_the_weights_is_kept():
    (weight,) = (w.detach().to(memory_format=torch.channels_last) for w in weights(4, 3, 2, 2, count=1))
    (y,) = _Standardise.apply(weight)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(y, formula(weight))


def test_an_error_of_the_forward_forgets_the_weights():
    network = nn.Sequential(ReleasedStdConv2dSame(3, 4, 3))
    with pytest.raises(RuntimeError, match="stop"), standardised_together(network):
        raise RuntimeError("stop")
    assert network[0].standardised is None


def test_the_backbone_standardises_every_shape_once(monkeypatch):
    backbone = Backbone(backbone_spec("vitb_hybrid"), False, "released").eval()
    shapes = {conv.weight.shape for conv in backbone.modules() if isinstance(conv, ReleasedStdConv2dSame)}
    calls, apply = [], _Standardise.apply
    monkeypatch.setattr(_Standardise, "apply", lambda *given: calls.append(given) or apply(*given))
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 32, 32))
    assert len(calls) == len(shapes)
    assert sum(map(len, calls)) == 52


def test_replaced_convolutions_keep_their_parameters():
    backbone = Backbone(backbone_spec("vitb_hybrid"), False, "paper")
    before = dict(backbone.named_parameters())
    replaced = use_released_standardisation(backbone.vit.patch_embed)
    assert len(replaced) == 52
    assert all(parameter is before[name] for name, parameter in backbone.named_parameters())
