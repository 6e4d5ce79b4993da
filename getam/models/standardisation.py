"""The released code's weight standardisation, (w - mean) / (std + 1e-5), of one convolution or of many at once.

timm 1.x divides by sqrt(var + 1e-8) instead; block outputs differ by 8e-4 (docs/explanation/method.md section 1).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from timm.layers import StdConv2dSame, pad_same
from torch import Tensor, nn

_EPSILON = 1e-5


class ReleasedStdConv2dSame(StdConv2dSame):
    """timm's convolution with the released code's weight standardisation; the std is the biased one."""

    standardised: Tensor | None = None  # by `standardised_together`

    def forward(self, x: Tensor) -> Tensor:
        if self.same_pad:
            x = pad_same(x, self.kernel_size, self.stride, self.dilation)
        weight = self.standardised
        if weight is None:
            (weight,) = _Standardise.apply(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


@contextmanager
def standardised_together(convolutions: Iterable[ReleasedStdConv2dSame]) -> Iterator[None]:
    """Standardises the weights of equal shape by one operation each: on a GPU launches cost more than copies."""
    groups = defaultdict(list)
    for convolution in convolutions:
        groups[convolution.weight.shape].append(convolution)
    try:
        for group in groups.values():
            weights = _Standardise.apply(*(convolution.weight for convolution in group))
            for convolution, weight in zip(group, weights, strict=True):
                convolution.standardised = weight
        yield
    finally:
        for group in groups.values():
            for convolution in group:
                convolution.standardised = None


class _Standardise(torch.autograd.Function):
    """Weights (O, I, H, W) of one shape to y = (w - mean) / s of each, with s = std + 1e-5 over all but O.

    dL/dw = (g - mean g) / s - y mean(g y) / std, where g = dL/dy; a constant weight, whose std is 0, has y = 0.
    """

    @staticmethod
    def forward(ctx, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.channels_last = not weights[0].is_contiguous()
        stacked = _stack(weights, ctx.channels_last)
        std, mean = torch.std_mean(stacked, dim=(2, 3, 4), correction=0, keepdim=True)
        y = stacked.sub_(mean).div_(std + _EPSILON)
        ctx.save_for_backward(y, std)
        return _unstack(y, ctx.channels_last)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, ...]:
        y, std = ctx.saved_tensors
        g = _stack(gradients, ctx.channels_last)
        along = (g * y).mean((2, 3, 4), keepdim=True) / std.clamp_min(torch.finfo(std.dtype).tiny)
        g = (g - g.mean((2, 3, 4), keepdim=True)).div_(std + _EPSILON).addcmul_(y, along, value=-1)
        return _unstack(g, ctx.channels_last)


def _stack(weights: tuple[Tensor, ...], channels_last: bool) -> Tensor:
    return torch.stack([weight.permute(0, 2, 3, 1) for weight in weights] if channels_last else weights)


def _unstack(stacked: Tensor, channels_last: bool) -> tuple[Tensor, ...]:
    return tuple(weight.permute(0, 3, 1, 2) if channels_last else weight for weight in stacked.unbind())


def use_released_standardisation(module: nn.Module) -> list[ReleasedStdConv2dSame]:
    """Replaces timm's standardised convolutions inside `module`, with their parameters; returns the new ones."""
    replaced = []
    for name, conv in list(module.named_modules()):
        if isinstance(conv, StdConv2dSame):
            replacement = ReleasedStdConv2dSame(
                conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, bias=conv.bias is not None
            )
            replacement.weight, replacement.bias = conv.weight, conv.bias
            module.set_submodule(name, replacement)
            replaced.append(replacement)
    return replaced
