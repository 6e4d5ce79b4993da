"""The permutohedral lattice of csrc/ in torch operations, on any device, and what a GPU computes with a lattice.

Tensors on a GPU use it where the Triton kernels (getam/lattice/triton_lattice.py) cannot run. On the CPU it is a second
implementation, which tests compare with the others. `form` is the class of the lattice, `TorchLattice` or
`TritonLattice` (getam/lattice/forms.py chooses).
"""

from math import ceil, floor, sqrt
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

LARGEST = 2.0**17  # feature, the limit of csrc/lattice.cpp
_MOST_KEYS = 2**63  # of int64
_AT_ONCE = 2**26  # values that are splatted by one operation, 256 MiB; more than that corner by corner


class TorchLattice:
    """The permutohedral lattice (Adams, Baek and Davis 2010) of points in d dimensions, of one image or a batch.

    The host waits for the device for the number of vertices, and for the range of the lattice if it has to be found.

    Args:
        features: (d, N) float32; the lattice approximates a Gaussian of variance 1 in these units.
        images: number of images. The points are those of the first image, then those of the second, and so on, as many
            of each; points of different images have no vertex in common.
        bounds: between which two numbers each feature lies; None: found.

    Raises:
        ValueError: the features span more lattice cells than can be numbered, or are not finite.
    """

    def __init__(self, features: Tensor, images: int = 1, bounds: list[tuple[float, float]] | None = None):
        d, points = features.shape
        if bounds is None:
            # Features beyond the limit are refused below; until then, they must not lead beyond any array.
            origins, by_rank, self.weights = _locate(features.nan_to_num().clamp(-LARGEST, LARGEST))
        else:
            origins, by_rank, self.weights = _locate(features)
        numbers = known_numbering(bounds, images, features.device)
        if numbers is None:
            numbers = numbering(origins[:d].amin(1), origins[:d].amax(1), features.abs().amax(), images)
        image = torch.arange(images, device=features.device).repeat_interleave(points // images, output_size=points)
        keys = _corner_keys(origins, by_rank, image, numbers)
        unique, corners = torch.unique(keys, return_inverse=True)
        self.corners = corners.view(d + 1, points)
        self.vertices = len(unique)
        # (d + 1, 2, vertices): the neighbours along each direction; if missing, the index of a row of zeros.
        self._neighbours = _find(unique, unique + torch.stack([-numbers.steps, numbers.steps], 1)[:, :, None])
        self._slice_scale = 1 / (1 + 2.0**-d)

    def filter(self, values: Tensor, transposed: bool = False, weights: Tensor | None = None) -> Tensor:
        """Splat, blur and slice: (N, K) -> (N, K). The transpose blurs in the reverse order.

        Args:
            values: (N, K) float32.
            transposed: apply the transposed operator.
            weights: (d + 1, N), used instead of the barycentric coordinates `self.weights`.
        """
        weights = self.weights if weights is None else weights
        table = values.new_zeros(self.vertices + 1, values.shape[1])
        if weights.numel() * values.shape[1] <= _AT_ONCE:
            table.index_add_(0, self.corners.flatten(), (weights[:, :, None] * values).flatten(0, 1))
        else:
            for corner, weight in zip(self.corners, weights, strict=True):
                table.index_add_(0, corner, weight[:, None] * values)
        for previous, following in self._neighbours.flip(0) if transposed else self._neighbours:
            table[:-1] += 0.5 * (table[previous] + table[following])
        corners = self.corners.T.contiguous()
        filtered = embedding_bag(corners, table, mode="sum", per_sample_weights=weights.T.contiguous())
        return filtered.mul_(self._slice_scale)


def symmetric_weights(lattice: TorchLattice) -> Tensor:
    """(d + 1, N): with these, the lattice's `filter` applies n^-1/2 K n^-1/2, where n = K 1."""
    n = lattice.filter(torch.ones_like(lattice.weights[0])[:, None])[:, 0]
    return lattice.weights * (n + 1e-20).rsqrt()


def positions(height: int, width: int, sigma_xy: float, device: torch.device) -> Tensor:
    """(x, y) / sigma_xy of every pixel: (2, H * W)."""
    y, x = torch.meshgrid(
        *(torch.arange(side, dtype=torch.float32, device=device) for side in (height, width)), indexing="ij"
    )
    return _divided(torch.stack([x, y]).flatten(1), sigma_xy)


def _divided(values: Tensor, sigma: float) -> Tensor:
    """values / sigma. By a number, CUDA multiplies with the rounded reciprocal; csrc/ and the CPU divide."""
    return values / torch.full((), sigma, device=values.device)


def bilateral_features(image_rgb: Tensor, sigma_rgb: float, sigma_xy: float) -> Tensor:
    """(x, y) / sigma_xy and (r, g, b) / sigma_rgb: (3, H, W) -> (5, H * W)."""
    return _features_of_batch(image_rgb[None], sigma_rgb, sigma_xy)


def _features_of_batch(images_rgb: Tensor, sigma_rgb: float, sigma_xy: float) -> Tensor:
    """(B, 3, H, W) -> (5, B * H * W)."""
    xy = positions(*images_rgb.shape[2:], sigma_xy, images_rgb.device).repeat(1, len(images_rgb))
    rgb = images_rgb.to(torch.float32).transpose(0, 1).flatten(1)
    return torch.cat([xy, _divided(rgb, sigma_rgb)])


def bilateral_lattice(
    images_rgb: Tensor, sigma_rgb: float, sigma_xy: float, form: type[TorchLattice] = TorchLattice
) -> TorchLattice:
    """The lattice of a batch of images, (B, 3, H, W)."""
    bounds = None
    if images_rgb.dtype == torch.uint8:
        height, width = images_rgb.shape[2:]
        bounds = [(0, (side - 1) / sigma_xy) for side in (width, height)] + [(0, 255 / sigma_rgb)] * 3
    return form(_features_of_batch(images_rgb, sigma_rgb, sigma_xy), len(images_rgb), bounds)


def filter_batch(lattice: TorchLattice, values: Tensor, transposed: bool = False) -> Tensor:
    """W values, or W' values, per channel, on the lattice of their images: (B, K, H, W) -> (B, K, H, W), float32."""
    points = values.to(torch.float32).permute(0, 2, 3, 1)
    filtered = lattice.filter(points.flatten(0, 2), transposed).view(points.shape)
    return filtered.permute(0, 3, 1, 2).contiguous()


def bilateral_filter(
    images_rgb: Tensor,
    values: Tensor,
    sigma_rgb: float,
    sigma_xy: float,
    transposed: bool = False,
    form: type[TorchLattice] = TorchLattice,
) -> Tensor:
    """W values, or W' values, per channel: images (B, 3, H, W), values (B, K, H, W) -> (B, K, H, W)."""
    if values.numel() == 0:
        return torch.empty_like(values, dtype=torch.float32, memory_format=torch.contiguous_format)
    return filter_batch(bilateral_lattice(images_rgb, sigma_rgb, sigma_xy, form), values, transposed)


class LatticeFilter(torch.autograd.Function):
    """`filter_batch`, whose gradient is its transpose on the same lattice."""

    @staticmethod
    def forward(ctx, values: Tensor, lattice: TorchLattice, transposed: bool) -> Tensor:
        ctx.lattice, ctx.transposed = lattice, transposed
        return filter_batch(lattice, values, transposed)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return LatticeFilter.apply(gradient, ctx.lattice, not ctx.transposed), None, None


def mean_field(
    image_rgb: Tensor,
    probabilities: Tensor,
    iterations: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
    form: type[TorchLattice] = TorchLattice,
) -> Tensor:
    """Marginals of a dense CRF with every label: image (3, H, W), probabilities (L, H, W) -> (L, H, W)."""
    return mean_field_batch(image_rgb[None], probabilities[None], iterations, gaussian, bilateral, form)[0]


def mean_field_batch(
    images_rgb: Tensor,
    probabilities: Tensor,
    iterations: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
    form: type[TorchLattice] = TorchLattice,
) -> Tensor:
    """`mean_field` of several images of one size: images (B, 3, H, W), probabilities (B, L, H, W) -> (B, L, H, W)."""
    images, labels, height, width = probabilities.shape
    p = probabilities.to(torch.float32).permute(0, 2, 3, 1).reshape(-1, labels)
    unary = p.clamp_min(1e-20).log()  # the smallest probability of csrc/mean_field.h
    (gaussian_xy, gaussian_compatibility), (bilateral_xy, bilateral_rgb, bilateral_compatibility) = gaussian, bilateral
    xy = positions(height, width, gaussian_xy, p.device).repeat(1, images)
    kernels = [
        (gaussian_compatibility, form(xy, images)),
        (bilateral_compatibility, bilateral_lattice(images_rgb, bilateral_rgb, bilateral_xy, form)),
    ]
    kernels = [(compatibility, lattice, symmetric_weights(lattice)) for compatibility, lattice in kernels]
    q = unary.softmax(1)
    for _ in range(iterations):
        scores = unary.clone()
        for compatibility, lattice, weights in kernels:
            scores.add_(lattice.filter(q, weights=weights), alpha=compatibility)
        q = scores.softmax(1)
    return q.view(images, height, width, labels).permute(0, 3, 1, 2).contiguous()


def _locate(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(d, N) -> origins (d + 1, N) of the simplices, coordinates by rank (d + 1, N), barycentric weights (d + 1, N)."""
    d = len(features)
    # Rounds as csrc/lattice.cpp does, in the same order: pixels often lie exactly on a face.
    sums = torch.zeros_like(features[0])
    elevated = [sums] * (d + 1)
    for i in reversed(range(d)):
        scaled = features[i] * _scale(i, d)
        elevated[i + 1] = sums - (i + 1) * scaled
        sums = sums + scaled
    elevated[0] = sums
    elevated = torch.stack(elevated)

    rounded = (elevated * (1 / (d + 1))).round()
    origins = (rounded * (d + 1)).long()
    excess = rounded.sum(0).long()
    remainders = elevated - origins
    # Rank 0 is the largest remainder; of equal ones the earlier coordinate comes first.
    ranks = _inverse(remainders.sort(stable=True, dim=0, descending=True).indices) + excess
    # Where the rounded coordinates do not sum to zero, those that were rounded the furthest are corrected.
    wrap = ((ranks < 0).long() - (ranks > d).long()) * (d + 1)
    ranks += wrap
    origins += wrap

    by_rank = _inverse(ranks)
    sorted_remainders = ((elevated - origins) * (1 / (d + 1))).gather(0, by_rank)
    weights = torch.empty_like(elevated)
    weights[0] = 1 + sorted_remainders[d] - sorted_remainders[0]
    weights[1:] = (sorted_remainders[:-1] - sorted_remainders[1:]).flip(0)
    return origins, by_rank, weights


def _inverse(permutations: Tensor) -> Tensor:
    """The inverses of permutations along the first dimension."""
    places = torch.arange(len(permutations), device=permutations.device)[:, None].expand_as(permutations)
    return torch.empty_like(permutations).scatter_(0, permutations, places)


def _scale(i: int, d: int) -> float:
    """Units of the lattice in one unit of feature i."""
    return sqrt(2 / 3) * (d + 1) / sqrt((i + 1) * (i + 2))


class Numbering(NamedTuple):
    """How vertices become numbers, in int64: digits are the first d coordinates, less the lowest, and the image.

    lowest: (d,), the least digits. units: (d + 1,), of the digits. steps: (d + 1,), the increment of one step along
    each direction. Corners and their neighbours have different numbers, all from 0.
    """

    lowest: Tensor
    units: Tensor
    steps: Tensor


def known_numbering(bounds: list[tuple[float, float]] | None, images: int, device: torch.device) -> Numbering | None:
    """From bounds of the features; None where there are none, or where they leave room for too many vertices."""
    if bounds is None or not all(max(-low, high) < LARGEST for low, high in bounds):
        return None
    d = len(bounds)
    scaled = [(low * _scale(i, d), high * _scale(i, d)) for i, (low, high) in enumerate(bounds)]
    lowest, counts = [], []
    for i in range(d):
        # Coordinate i is the sum of the scaled features from i on, less i times the one before (see `_locate`).
        low = sum(pair[0] for pair in scaled[i:]) - (i * scaled[i - 1][1] if i else 0)
        high = sum(pair[1] for pair in scaled[i:]) - (i * scaled[i - 1][0] if i else 0)
        # An origin is up to 2 (d + 1) away, corners d + 1 from that and their neighbours as far again.
        lowest.append(floor(low) - 4 * (d + 1))
        counts.append(ceil(high) + 4 * (d + 1) - lowest[-1] + 1)
    units = _units(counts)
    if units[d] * images >= _MOST_KEYS:
        return None
    return Numbering(torch.tensor(lowest).to(device, non_blocking=True), *_on_device(units, device))


def numbering(lowest: Tensor, highest: Tensor, largest: Tensor, images: int) -> Numbering:
    """From the vertices themselves; the host waits for the device.

    Args:
        lowest, highest: (d,), of the coordinates of the simplices' origins.
        largest: magnitude of the features, a scalar.

    Raises:
        ValueError: the features are too large or not finite, or the vertices too many for 63 bits.
    """
    d = len(lowest)
    # Corners lie up to d + 1 beyond the origins, and their neighbours as far again.
    lowest = lowest.long() - 2 * (d + 1)
    counts = highest - lowest + 2 * (d + 1) + 1
    # Read together, as the host waits for the device. Doubles hold both exactly where the limit is kept.
    *counts, largest = torch.cat([counts.double(), largest.double()[None]]).tolist()
    if not largest < LARGEST:  # false for NaN, too
        raise ValueError("sigma is too small for an image of this range")
    units = _units(counts)
    if units[d] * images >= _MOST_KEYS:
        raise ValueError("sigma is too small: the lattice would need more than 2^63 vertices")
    return Numbering(lowest, *_on_device(units, lowest.device))


def _units(counts: list[float]) -> list[int]:
    units = [1]
    for count in counts:
        units.append(units[-1] * int(count))
    return units


def _on_device(units: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Units and steps."""
    *units_of_coordinates, _ = units
    d = len(units_of_coordinates)
    # One step: +1 at every coordinate and -(d + 1) at one of them, of which the last is not stored.
    steps = [sum(units_of_coordinates) - (d + 1) * unit for unit in units_of_coordinates]
    both = torch.tensor([units, [*steps, sum(units_of_coordinates)]]).to(device, non_blocking=True)
    return both[0], both[1]


def _corner_keys(origins: Tensor, by_rank: Tensor, image: Tensor, numbers: Numbering) -> Tensor:
    """The corners' numbers (d + 1, N); `image` (N,) is that of each point."""
    d = len(origins) - 1
    origin_keys = (origins[:d] - numbers.lowest[:, None]) * numbers.units[:d, None]
    origin_keys = origin_keys.sum(0, keepdim=True) + image * numbers.units[d]
    walked = numbers.steps[by_rank.flip(0)[:d]].cumsum(0)
    return torch.cat([origin_keys, origin_keys + walked])


def _find(keys: Tensor, wanted: Tensor) -> Tensor:
    """Positions of the wanted keys among sorted ones; len(keys) where a key is missing."""
    at = torch.searchsorted(keys, wanted)
    found = keys[at.clamp_max(len(keys) - 1)] == wanted
    return torch.where(found, at, len(keys))
