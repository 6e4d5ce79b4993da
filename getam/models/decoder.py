"""The DPT decoder: readout, reassembly and fusion of the taps, squeeze and excitation.

docs/explanation/method.md, section 1.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Readout(nn.Module):
    """DPT's readout "project": joins each patch token with the class token, (B, N, D) -> (B, D, rows, columns)."""

    def __init__(self, dim: int, prefix_tokens: int):
        super().__init__()
        self.prefix_tokens = prefix_tokens
        self.project = nn.Linear(2 * dim, dim)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        # Linear(2D -> D) of [patch, class] is a sum of two products; the class token's is the same for all patches.
        of_patch, of_class = self.project.weight.chunk(2, dim=1)
        patches = F.linear(tokens[:, self.prefix_tokens :], of_patch)
        joined = F.gelu(patches + F.linear(tokens[:, :1], of_class, self.project.bias))
        return joined.transpose(1, 2).unflatten(2, grid)


class Reassemble(nn.Module):
    """Turns a block's tokens (B, N, D) into a feature map (B, width, H/stride, W/stride)."""

    def __init__(self, dim: int, prefix_tokens: int, width: int, token_stride: int, stride: int):
        super().__init__()
        self.readout = Readout(dim, prefix_tokens)
        self.project = nn.Conv2d(dim, width, 1)
        self.resample = _resampling(width, token_stride, stride)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.resample(self.project(self.readout(tokens, grid)))


def _resampling(width: int, token_stride: int, stride: int) -> nn.Module:
    if stride < token_stride:
        factor = token_stride // stride
        return nn.ConvTranspose2d(width, width, factor, stride=factor)
    if stride > token_stride:
        factor = stride // token_stride
        return nn.Conv2d(width, width, 2 * factor - 1, stride=factor, padding=factor - 1)
    return nn.Identity()


class ResidualUnit(nn.Module):
    """x + BatchNorm(conv(ReLU(BatchNorm(conv(ReLU(x)))))), 3x3 convolutions without bias; (B, width, h, w)."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(F.relu(x))))
        return x + self.bn2(self.conv2(inner))


class FusionBlock(nn.Module):
    """Adds a skip connection to the coarser map and doubles its size: (B, width, h, w) -> (B, width, 2h, 2w)."""

    def __init__(self, width: int, has_skip: bool):
        super().__init__()
        self.skip_unit = ResidualUnit(width) if has_skip else None
        self.unit = ResidualUnit(width)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, top: Tensor, skip: Tensor | None = None) -> Tensor:
        if skip is not None:
            top = top + self.skip_unit(skip)
        # A 1x1 convolution and an interpolation commute; before the interpolation it costs a quarter.
        return double(self.out(self.unit(top)))


def double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class Decoder(nn.Module):
    """DPT's fusion of the taps "1" (finest) to "4", coarsest first: -> (B, width, H/2, W/2)."""

    def __init__(self, tap_widths: dict[str, int], width: int):
        super().__init__()
        self.project = nn.ModuleDict(
            {tap: nn.Conv2d(tap_widths[tap], width, 3, padding=1, bias=False) for tap in tap_widths}
        )
        self.fusion = nn.ModuleDict({tap: FusionBlock(width, has_skip=tap != "4") for tap in tap_widths})

    def forward(self, taps: dict[str, Tensor]) -> Tensor:
        x = self.fusion["4"](self.project["4"](taps["4"]))
        for tap in "321":
            x = self.fusion[tap](x, self.project[tap](taps[tap]))
        return x


class SqueezeExcite(nn.Module):
    """f = conv(ReLU(conv(x))); x + f * sigmoid(W2 ReLU(W1 mean(f))); (B, width, h, w) -> the same."""

    def __init__(self, width: int):
        super().__init__()
        squeezed = max(width // 16, 4)
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )
        self.gate = nn.Sequential(
            nn.Linear(width, squeezed, bias=False),
            nn.ReLU(),
            nn.Linear(squeezed, width, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        f = self.body(x)
        return x + f * self.gate(f.mean((2, 3)))[:, :, None, None]
