"""PAMR, pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020), and the scaling of maps.

docs/explanation/method.md, sections 2 and 3.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from getam.config.choices import DILATIONS, ITERATIONS

# The 3 x 3 window without its centre, as (row, column) steps.
_NEIGHBOURS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
# Values of all neighbours that a GPU gathers at once, 512 MiB: there launches cost more than memory.
_MOST_AT_ONCE = 2**27


def refine_maps(
    maps: Tensor,
    images_rgb: Tensor,
    iterations: int = ITERATIONS,
    dilations: tuple[int, ...] = DILATIONS,
    most: int | None = None,
) -> Tensor:
    """Resize activation maps to the images and refine them along the images' edges (PAMR).

    Bilinear with align_corners=True; then `iterations` times every pixel becomes the mean of its 8 neighbours at each
    dilation, weighted by the similarity of their colours (`affinity`), with replicated borders. Maps that are zero
    everywhere stay zero and cost nothing.

    Args:
        maps: (B, C, h, w).
        images_rgb: 0..255, (B, 3, H, W).
        iterations: how often pixels are averaged.
        dilations: distances to the neighbours, in pixels.
        most: an image has at most so many maps that are not zero; None: counted, for which a GPU's host waits.

    Returns:
        (B, C, H, W), not normalised.

    Raises:
        ValueError: shapes that do not fit.

    >>> refine_maps(torch.rand(1, 2, 4, 4), torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 2, 64, 64])
    """
    if maps.ndim != 4 or images_rgb.ndim != 4 or images_rgb.shape[1] != 3 or len(maps) != len(images_rgb):
        raise ValueError(
            "expected maps (B, C, h, w) and images_rgb (B, 3, H, W), "
            f"got {tuple(maps.shape)} and {tuple(images_rgb.shape)}"
        )
    size = images_rgb.shape[-2:]
    refined = maps.new_zeros(*maps.shape[:2], *size)
    active = (maps != 0).flatten(2).any(2)
    if most is None:
        most = int(active.sum(1).max()) if active.numel() else 0
    if most == 0:
        return refined
    # An image has few of the classes: its non-zero maps are gathered to the front, refined, and scattered back.
    front = active.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    packed = maps.gather(1, front[:, :, None, None].expand(-1, -1, *maps.shape[-2:]))
    packed = F.interpolate(packed, size=size, mode="bilinear", align_corners=True)
    images_rgb = images_rgb.to(maps.dtype)
    if packed.is_cuda and _fits(packed, dilations) and _fits(images_rgb, dilations):
        packed = _refine_at_once(packed, images_rgb, iterations, dilations)
    else:
        weights = affinity(images_rgb, dilations)
        for _ in range(iterations):
            packed = _weighted_mean(packed, weights, dilations)
    return refined.scatter_(1, front[:, :, None, None].expand(-1, -1, *size), packed)


def normalise_maps(maps: Tensor) -> Tensor:
    """Divide each (B, C, H, W) map by its maximum + 1e-5.

    >>> normalise_maps(torch.tensor([[[[1.0, 2.0]]]])).round(decimals=3)
    tensor([[[[0.5000, 1.0000]]]])
    """
    return maps / (maps.amax((2, 3), keepdim=True) + 1e-5)


def affinity(images_rgb: Tensor, dilations: tuple[int, ...] = DILATIONS) -> Tensor:
    """PAMR's weights: softmax over a pixel's neighbours of mean over RGB of -|x_i - x_j| / (1e-8 + 0.1 std_i).

    std_i is the unbiased standard deviation over the pixels of the 3 x 3 windows at all dilations together.

    Args:
        images_rgb: 0..255, (B, 3, H, W), floating point.

    Returns:
        (8 * len(dilations), B, H, W), adding up to 1 over the first dimension.
    """
    # Sums of differences from the centre, which is in the window once per dilation and adds 0.
    total, squares = torch.zeros_like(images_rgb), torch.zeros_like(images_rgb)
    for neighbour in _neighbours(images_rgb, dilations):
        difference = neighbour - images_rgb
        total += difference
        squares.addcmul_(difference, difference)
    count = (len(_NEIGHBOURS) + 1) * len(dilations)
    std = ((squares - total.square() / count) / (count - 1)).clamp_min(0).sqrt()
    sharpness = 1 / (1e-8 + 0.1 * std)
    weights = images_rgb.new_empty(len(_NEIGHBOURS) * len(dilations), len(images_rgb), *images_rgb.shape[-2:])
    for weight, neighbour in zip(weights, _neighbours(images_rgb, dilations), strict=True):
        torch.mean(((neighbour - images_rgb).abs_() * sharpness).neg_(), 1, out=weight)
    # torch's softmax over the first dimension takes three times as long on the CPU.
    weights.sub_(weights.amax(0)).exp_()
    return weights.div_(weights.sum(0))


def _weighted_mean(maps: Tensor, weights: Tensor, dilations: tuple[int, ...]) -> Tensor:
    result = torch.zeros_like(maps)
    for weight, neighbour in zip(weights, _neighbours(maps, dilations), strict=True):
        result.addcmul_(weight[:, None], neighbour)
    return result


def _fits(x: Tensor, dilations: tuple[int, ...]) -> bool:
    return len(_NEIGHBOURS) * len(dilations) * x.numel() <= _MOST_AT_ONCE


def _refine_at_once(maps: Tensor, images_rgb: Tensor, iterations: int, dilations: tuple[int, ...]) -> Tensor:
    """The same with all neighbours gathered by one operation: maps (B, K, H, W) -> (B, K, H, W)."""
    height, width = maps.shape[-2:]
    places = _places(height, width, dilations, maps.device)
    images = images_rgb.flatten(2)[:, :, None]
    difference = images[:, :, 0][:, :, places] - images  # (B, 3, N, H * W)
    count = (len(_NEIGHBOURS) + 1) * len(dilations)
    squares, total = difference.square().sum(2, keepdim=True), difference.sum(2, keepdim=True)
    std = ((squares - total.square() / count) / (count - 1)).clamp_min(0).sqrt()
    weights = (difference.abs() / -(1e-8 + 0.1 * std)).mean(1).softmax(1)[:, None]
    maps = maps.flatten(2)
    for _ in range(iterations):
        maps = (maps[:, :, places] * weights).sum(2)
    return maps.unflatten(2, (height, width))


def _places(height: int, width: int, dilations: tuple[int, ...], device: torch.device) -> Tensor:
    """Where neighbours are, (N, H * W): row * W + column; edges are replicated, the order is that of `_neighbours`."""
    steps = torch.tensor([(dilation * y, dilation * x) for dilation in dilations for y, x in _NEIGHBOURS])
    rows = (torch.arange(height) + steps[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width) + steps[:, 1:]).clamp(0, width - 1)
    return (rows[:, :, None] * width + columns[:, None]).flatten(1).to(device, non_blocking=True)


def _neighbours(x: Tensor, dilations: tuple[int, ...]) -> Iterator[Tensor]:
    """Views of x (B, K, H, W), edges replicated, shifted to each neighbour: dilation by dilation, row by row."""
    height, width = x.shape[-2:]
    border = max(dilations)
    padded = F.pad(x, (border,) * 4, mode="replicate")
    for dilation in dilations:
        for row, column in _NEIGHBOURS:
            top, left = border + row * dilation, border + column * dilation
            yield padded[:, :, top : top + height, left : left + width]
