"""Gaussian kernels between points, on the permutohedral lattice, and what the library computes with them."""

import ctypes
import weakref
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from getam_lattice.checks import check_positive, check_shape, check_whole
from getam_lattice.library import PORTABLE, address, call, float32, library

# The numbers of csrc/kernels.h.
NORMALISATIONS = {"none": 0, "before": 1, "after": 2, "symmetric": 3}
_POTTS, _DIAGONAL, _MATRIX = 0, 1, 2


class Kernel:
    """The Gaussian exp(-|f_i - f_j|^2 / 2) between points with features f, approximated on the permutohedral lattice.

    Normalised as in Kraehenbuehl and Koltun's code. With W the lattice's filter and n = W 1 it is W ("none"), W / n,
    which divides before it filters ("before"), (1 / n) W ("after"), or n^-1/2 W n^-1/2 ("symmetric").

    Args:
        features: (d, N), in units of the standard deviation; (d, H, W) if the points are pixels, which is faster.
        normalisation: "none", "before", "after" or "symmetric".
        threads: that build the lattice.
        instruction_set: "portable" or None, the best of this processor.

    Raises:
        ValueError: features that are not finite, too many, or spread over more than 2^17 standard deviations.

    >>> points = np.array([[0.0, 0.5, 9.0]])  # one feature, three points
    >>> kernel = getam_lattice.Kernel(points, normalisation="none")
    >>> kernel.filter(np.ones((1, 3))).shape
    (1, 3)
    """

    def __init__(
        self,
        features: np.ndarray,
        normalisation: str = "symmetric",
        threads: int = 1,
        instruction_set: Optional[str] = None,
    ):
        features = float32(features)
        if features.ndim not in (2, 3) or features.size == 0:
            raise ValueError(f"features: expected (d, N) or (d, H, W) with at least one point, got {features.shape}")
        height, width = features.shape[1:] if features.ndim == 3 else (1, features.shape[1])
        self._build(height, width, None, features, np.ones(len(features)), normalisation, threads, instruction_set)

    @classmethod
    def of_image(
        cls,
        height: int,
        width: int,
        sigma_xy: Sequence[float],
        planes: Optional[np.ndarray] = None,
        sigmas: Sequence[float] = (),
        normalisation: str = "symmetric",
        threads: int = 1,
        instruction_set: Optional[str] = None,
    ) -> "Kernel":
        """The kernel between pixels on x / sigma_x, y / sigma_y and planes (C, H, W) over their sigmas (C)."""
        planes = float32(np.zeros((0, height, width)) if planes is None else planes)
        check_shape("planes", planes, (len(sigmas), height, width))
        kernel = cls.__new__(cls)
        kernel._build(height, width, sigma_xy, planes, sigmas, normalisation, threads, instruction_set)
        return kernel

    def _build(self, height, width, sigma_xy, planes, sigmas, normalisation, threads, instruction_set) -> None:
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation: expected one of {', '.join(NORMALISATIONS)}, got {normalisation!r}")
        check_whole(1, height=height, width=width, threads=threads)
        for sigma in (*(sigma_xy or ()), *sigmas):
            check_positive(sigma=sigma)
        if not np.isfinite(planes).all():
            raise ValueError("features: expected finite values")
        sigmas = float32(sigmas)
        handle = ctypes.c_void_p()
        call(
            "getam_kernel_new",
            *(ctypes.byref(handle), height, width, sigma_xy is not None, *(sigma_xy or (1, 1))),
            *(len(planes), address(planes), address(sigmas), NORMALISATIONS[normalisation]),
            *(threads, instruction_set == PORTABLE),
        )
        self.handle = handle.value
        self.points = height * width
        self.instruction_set = instruction_set
        weakref.finalize(self, library().getam_kernel_delete, self.handle)

    def filter(self, values: np.ndarray, transposed: bool = False, threads: int = 1) -> np.ndarray:
        """K values, or K' values, per channel: (C, N) or (C, H, W) -> the same shape, float32."""
        values = float32(values)
        if values.ndim < 2 or values[0:1].size not in (0, self.points) or len(values) * self.points != values.size:
            raise ValueError(f"values: expected (C, {self.points}) or (C, H, W), got {values.shape}")
        check_whole(1, threads=threads)
        filtered = np.empty_like(values)
        if values.size:
            call(
                "getam_kernel_filter",
                *(self.handle, address(values), address(filtered), len(values), transposed),
                *(threads, self.instruction_set == PORTABLE),
            )
        return filtered


class Pairwise(NamedTuple):
    """A term of the dense CRF: `compatibility` times the filtered marginals is added to the scores.

    compatibility: float32; one number, (L,) per label, or (L, L) from the label of the column to that of the row.
    """

    kernel: Kernel
    compatibility: np.ndarray


def mean_field(
    pairwise: Sequence[Pairwise],
    unary: np.ndarray,
    iterations: int,
    *,
    energies: bool = False,
    start: Optional[np.ndarray] = None,
    negligible: float = 0.0,
    threads: int = 1,
    instruction_set: Optional[str] = None,
) -> np.ndarray:
    """Marginals of a dense CRF: unary (L, ...) -> the same shape, float32. Repeats Q <- softmax(s + sum of C K Q).

    Args:
        pairwise: the kernels K, all between the same points, with their compatibilities C.
        unary: probabilities, whose logarithms are the scores s, or energies, which are -s.
        iterations: updates of Q.
        energies: what `unary` is.
        start: Q to begin with, of the shape of `unary`; None: softmax(s).
        negligible: see `dense_crf`; only with probabilities, one number as each compatibility, and no `start`.
        threads: one image uses at most eight.
        instruction_set: "portable" or None, the best of this processor.
    """
    unary = float32(unary)
    labels, points = len(unary), unary[0].size
    marginals = np.empty_like(unary)
    compatibilities = [float32(term.compatibility) for term in pairwise]
    for term, compatibility in zip(pairwise, compatibilities):
        check_shape("compatibility", compatibility, (labels,) * compatibility.ndim)
        check_shape("unary", unary.reshape(labels, -1), (labels, term.kernel.points))
    if start is not None:
        start = float32(start)
        check_shape("start", start, unary.shape)
    if negligible > 0 and (energies or start is not None or any(array.ndim for array in compatibilities)):
        raise ValueError("negligible: expected 0 with energies, a start, or compatibilities per label")
    count = len(pairwise)
    call(
        "getam_mean_field",
        *(count, (ctypes.c_void_p * count)(*(term.kernel.handle for term in pairwise))),
        (ctypes.c_int * count)(*((_POTTS, _DIAGONAL, _MATRIX)[array.ndim] for array in compatibilities)),
        (ctypes.c_void_p * count)(*(address(array) for array in compatibilities)),
        *(points, labels, iterations, negligible, address(unary), energies),
        *(None if start is None else address(start), address(marginals), threads, instruction_set == PORTABLE),
    )
    return marginals


def bilateral_filter(
    images_rgb: np.ndarray,
    values: np.ndarray,
    sigma_rgb: float,
    sigma_xy: float,
    transposed: bool = False,
    threads: int = 1,
    instruction_set: Optional[str] = None,
) -> np.ndarray:
    """W values, or W' values, per channel: images (B, 3, H, W), values (B, K, H, W) -> (B, K, H, W)."""
    check_shape("images_rgb", images_rgb, (values.shape[0], 3, *values.shape[2:]))
    images_rgb, values = float32(images_rgb), float32(values)
    filtered = np.empty_like(values)
    if filtered.size:
        call(
            "getam_bilateral_filter",
            *(address(array) for array in (images_rgb, values, filtered)),
            *(*values.shape, sigma_rgb, sigma_xy, transposed, threads, instruction_set == PORTABLE),
        )
    return filtered
