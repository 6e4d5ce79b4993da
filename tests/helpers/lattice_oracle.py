"""The permutohedral lattice and the dense CRF as dense matrices in float64, one pixel, vertex and neighbour at a time.

Written from docs/explanation/method.md sections 4 and 6; shares no code with getam.
"""

import math

import numpy as np


def lattice_matrix(features: np.ndarray, reversed_blur: bool = False) -> np.ndarray:
    """The filter as a matrix: features (N, d) -> (N, N)."""
    points, d = features.shape
    corners = [simplex(feature) for feature in features]
    vertices = sorted({key for corner in corners for key in corner})
    number = {key: i for i, key in enumerate(vertices)}
    splat = np.zeros((len(vertices), points))
    for point, corner in enumerate(corners):
        for key, weight in corner.items():
            splat[number[key], point] += weight
    values = splat.copy()
    for j in reversed(range(d + 1)) if reversed_blur else range(d + 1):
        blurred = values.copy()
        for key, row in number.items():
            for sign in (-1, 1):
                neighbour = tuple(x + sign * (d if i == j else -1) for i, x in enumerate(key))
                if neighbour in number:
                    blurred[row] += values[number[neighbour]] / 2
        values = blurred
    return splat.T @ values / (1 + 2.0**-d)


def simplex(feature: np.ndarray) -> dict[tuple[int, ...], float]:
    """The vertices around a point, each with its barycentric weight."""
    d = len(feature)
    c = [feature[i] * math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) for i in range(d)]
    e = np.array([sum(c)] + [sum(c[j:]) - j * c[j - 1] for j in range(1, d + 1)])
    # The nearest vertex whose coordinates are multiples of d + 1: round, then undo the cheapest roundings.
    nearest = np.round(e / (d + 1))
    while (excess := round(nearest.sum())) != 0:
        ascending = ascending_order(e / (d + 1) - nearest)
        nearest[ascending[0 if excess > 0 else -1]] -= math.copysign(1, excess)
    key, remainder = nearest * (d + 1), e - nearest * (d + 1)
    # From it, d + 1 steps around the simplex: always add 1 everywhere and take d + 1 from the coordinate that is
    # furthest ahead; the weights are the gaps between the sorted remainders.
    order = ascending_order(remainder)
    gaps = np.diff(remainder[order]) / (d + 1)
    weights = {tuple(key.astype(int)): 1 - gaps.sum()}
    for coordinate, gap in zip(order, gaps, strict=False):
        key = key + 1
        key[coordinate] -= d + 1
        weights[tuple(key.astype(int))] = gap
    return weights


def ascending_order(remainder: np.ndarray) -> np.ndarray:
    """Of equal remainders, which all pixels with x = 0 have, the later coordinate counts as the smaller."""
    return np.lexsort((-np.arange(len(remainder)), remainder))


def bilateral_features(image_rgb: np.ndarray, sigma_rgb: float, sigma_xy: float) -> np.ndarray:
    """(H, W, 3) -> (H * W, 5)."""
    y, x = np.mgrid[: image_rgb.shape[0], : image_rgb.shape[1]]
    return np.concatenate(
        [np.stack([x, y], -1).reshape(-1, 2) / sigma_xy, image_rgb.reshape(-1, 3).astype(float) / sigma_rgb], 1
    )


def mean_field(
    image_rgb: np.ndarray,
    probabilities: np.ndarray,
    iterations: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
) -> np.ndarray:
    """image (H, W, 3), probabilities (L, H, W) -> marginals (L, H, W)."""
    labels = len(probabilities)
    p = probabilities.reshape(labels, -1).astype(float)
    kernels = [
        (bilateral_features(image_rgb, 1, gaussian[0])[:, :2], "symmetric", gaussian[1] * np.eye(labels)),
        (bilateral_features(image_rgb, bilateral[1], bilateral[0]), "symmetric", bilateral[2] * np.eye(labels)),
    ]
    matrices = [(kernel_matrix(features, normalisation), gain) for features, normalisation, gain in kernels]
    return mean_field_with(matrices, np.log(p), iterations).reshape(probabilities.shape)


def kernel_matrix(features: np.ndarray, normalisation: str) -> np.ndarray:
    """The normalised kernel: features (N, d) -> (N, N)."""
    matrix = lattice_matrix(features)
    n = matrix.sum(1) + 1e-20
    return {
        "none": lambda: matrix,
        "before": lambda: matrix / n,
        "after": lambda: matrix / n[:, None],
        "symmetric": lambda: matrix / np.sqrt(n) / np.sqrt(n)[:, None],
    }[normalisation]()


def mean_field_with(matrices: list[tuple[np.ndarray, np.ndarray]], scores: np.ndarray, iterations: int) -> np.ndarray:
    """Marginals (L, N) from kernels (N, N), each with the gains (L, L) of its messages, and unary scores (L, N)."""
    q = normalised(scores)
    for _ in range(iterations):
        q = normalised(scores + sum(gain @ q @ matrix.T for matrix, gain in matrices))
    return q


def normalised(scores: np.ndarray) -> np.ndarray:
    """The softmax over the first axis."""
    exponentials = np.exp(scores - scores.max(0))
    return exponentials / exponentials.sum(0)
