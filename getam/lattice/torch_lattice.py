"""The permutohedral lattice of csrc/ in torch operations, on any device. Tensors on a GPU use it; on the CPU it is a
second implementation, which tests compare with the first.
"""

from math import sqrt

import torch
from torch import Tensor


class TorchLattice:
    """The permutohedral lattice (Adams, Baek and Davis 2010) of points in d dimensions.

    Args:
        features: (d, N) float32; the lattice approximates a Gaussian of variance 1 in these units.

    Raises:
        ValueError: the features span more lattice cells than can be numbered, or are not finite.
    """

    def __init__(self, features: Tensor):
        d, points = features.shape
        if not (features.abs() < 2**17).all():  # the limit of csrc/lattice.cpp
            raise ValueError("sigma is too small for an image of this range")
        origins, by_rank, self.weights = _locate(features)
        steps, keys = _corner_keys(origins, by_rank)
        unique, corners = torch.unique(keys, return_inverse=True)
        self.corners = corners.view(d + 1, points)
        self.vertices = len(unique)
        # (d + 1, 2, vertices): the neighbours along each direction; if missing, the index of a row of zeros.
        self._neighbours = torch.stack(
            [torch.stack([_find(unique, unique + sign * step) for sign in (-1, 1)]) for step in steps]
        )
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
        for corner, weight in zip(self.corners, weights, strict=True):
            table.index_add_(0, corner, weight[:, None] * values)
        for previous, following in self._neighbours.flip(0) if transposed else self._neighbours:
            table[:-1] += 0.5 * (table[previous] + table[following])
        filtered = torch.zeros_like(values)
        for corner, weight in zip(self.corners, weights, strict=True):
            filtered.addcmul_(weight[:, None], table[corner])
        return filtered.mul_(self._slice_scale)

    def symmetric_weights(self) -> Tensor:
        """(d + 1, N): with these, `filter` applies n^-1/2 K n^-1/2, where n = K 1."""
        n = self.filter(torch.ones_like(self.weights[0])[:, None])[:, 0]
        return self.weights * (n + 1e-20).rsqrt()


def positions(height: int, width: int, sigma_xy: float, device: torch.device) -> Tensor:
    """(x, y) / sigma_xy of every pixel: (2, H * W)."""
    y, x = torch.meshgrid(
        *(torch.arange(side, dtype=torch.float32, device=device) for side in (height, width)), indexing="ij"
    )
    return torch.stack([x, y]).flatten(1) / sigma_xy


def bilateral_features(image_rgb: Tensor, sigma_rgb: float, sigma_xy: float) -> Tensor:
    """(x, y) / sigma_xy and (r, g, b) / sigma_rgb: (3, H, W) -> (5, H * W)."""
    xy = positions(*image_rgb.shape[1:], sigma_xy, image_rgb.device)
    return torch.cat([xy, image_rgb.to(torch.float32).flatten(1) / sigma_rgb])


def bilateral_filter(
    images_rgb: Tensor, values: Tensor, sigma_rgb: float, sigma_xy: float, transposed: bool = False
) -> Tensor:
    """W values, or W' values, per channel: images (B, 3, H, W), values (B, K, H, W) -> (B, K, H, W)."""
    filtered = torch.empty_like(values, dtype=torch.float32, memory_format=torch.contiguous_format)
    if values.numel() == 0:
        return filtered
    for image, value, out in zip(images_rgb, values, filtered, strict=True):
        lattice = TorchLattice(bilateral_features(image, sigma_rgb, sigma_xy))
        out.copy_(lattice.filter(value.to(torch.float32).flatten(1).T, transposed).T.view_as(out))
    return filtered


def mean_field(
    image_rgb: Tensor,
    probabilities: Tensor,
    iterations: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
) -> Tensor:
    """Marginals of a dense CRF with every label: image (3, H, W), probabilities (L, H, W) -> (L, H, W)."""
    _, height, width = probabilities.shape
    p = probabilities.to(torch.float32).flatten(1).T
    unary = p.clamp_min(1e-20).log()  # the smallest probability of csrc/mean_field.h
    (gaussian_xy, gaussian_compatibility), (bilateral_xy, bilateral_rgb, bilateral_compatibility) = gaussian, bilateral
    kernels = [
        (gaussian_compatibility, TorchLattice(positions(height, width, gaussian_xy, p.device))),
        (bilateral_compatibility, TorchLattice(bilateral_features(image_rgb, bilateral_rgb, bilateral_xy))),
    ]
    kernels = [(compatibility, lattice, lattice.symmetric_weights()) for compatibility, lattice in kernels]
    q = unary.softmax(1)
    for _ in range(iterations):
        scores = unary.clone()
        for compatibility, lattice, weights in kernels:
            scores.add_(lattice.filter(q, weights=weights), alpha=compatibility)
        q = scores.softmax(1)
    return q.T.reshape(probabilities.shape)


def _locate(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(d, N) -> origins (d + 1, N) of the simplices, coordinates by rank (d + 1, N), barycentric weights (d + 1, N)."""
    d = len(features)
    # Rounds as csrc/lattice.cpp does, in the same order: pixels often lie exactly on a face.
    sums = torch.zeros_like(features[0])
    elevated = [sums] * (d + 1)
    for i in reversed(range(d)):
        scaled = features[i] * (sqrt(2 / 3) * (d + 1) / sqrt((i + 1) * (i + 2)))
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


def _corner_keys(origins: Tensor, by_rank: Tensor) -> tuple[list[int], Tensor]:
    """Vertices as numbers: the increment of one step along each direction, and the corners' numbers (d + 1, N)."""
    d = len(origins) - 1
    # Corners lie up to d + 1 beyond the origins, and their neighbours as far again.
    lowest = origins[:d].amin(1) - 2 * (d + 1)
    counts = (origins[:d].amax(1) - lowest + 2 * (d + 1) + 1).tolist()
    units = [1]
    for count in counts:
        units.append(units[-1] * count)
    if units[d] >= 2**63:
        raise ValueError("sigma is too small: the lattice would need more than 2^63 vertices")
    # One step: +1 at every coordinate and -(d + 1) at one of them, of which the last is not stored.
    steps = [sum(units[:d]) - (d + 1) * unit for unit in units[:d]] + [sum(units[:d])]
    units, steps_by_coordinate = (torch.tensor(x, device=origins.device) for x in (units[:d], steps))
    origin_keys = ((origins[:d] - lowest[:, None]) * units[:, None]).sum(0, keepdim=True)
    walked = steps_by_coordinate[by_rank.flip(0)[:d]].cumsum(0)
    return steps, torch.cat([origin_keys, origin_keys + walked])


def _find(keys: Tensor, wanted: Tensor) -> Tensor:
    """Positions of the wanted keys among sorted ones; len(keys) where a key is missing."""
    at = torch.searchsorted(keys, wanted)
    found = keys[at.clamp_max(len(keys) - 1)] == wanted
    return torch.where(found, at, len(keys))
