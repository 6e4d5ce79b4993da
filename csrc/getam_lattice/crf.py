"""Mean-field inference of the dense CRF (Kraehenbuehl and Koltun 2011) on NumPy arrays."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Optional

import numpy as np

from getam_lattice.checks import check_shape, check_whole
from getam_lattice.kernels import Kernel, Pairwise, mean_field
from getam_lattice.settings import check_probabilities, check_settings


def dense_crf(
    image_rgb: np.ndarray,
    probabilities: np.ndarray,
    iterations: int = 20,
    gaussian: Sequence[float] = (3, 3),
    bilateral: Sequence[float] = (83, 5, 4),
    *,
    negligible: float = 0.01,
    threads: int = 1,
) -> np.ndarray:
    """Marginals of a dense CRF with Potts compatibility and symmetrically normalised kernels.

    Starts from Q = p and repeats Q <- softmax(log p + w_g K_g Q + w_b K_b Q), where K = n^-1/2 W n^-1/2, n = W 1, and W
    is the permutohedral lattice's Gaussian on (x, y) / sigma_xy (K_g), with (r, g, b) / sigma_rgb beside it (K_b).

    Args:
        image_rgb: (H, W, 3), uint8. The order of the channels changes the result.
        probabilities: (L, H, W), floats; every pixel sums to 1.
        iterations: updates of Q.
        gaussian: sigma_xy in pixels and compatibility w_g.
        bilateral: sigma_xy in pixels, sigma_rgb in 0..255 and compatibility w_b.
        negligible: labels whose marginals fall below this at every pixel send no more messages, if that makes the
            others faster to compute; their unary scores stay. It changes marginals of photographs by about 1e-4, and
            those of small noisy images by up to 0.04. 0: every label takes part to the end.
        threads: one image uses at most eight.

    Returns:
        (L, H, W), float32.

    Raises:
        ValueError: a shape, type or setting that does not fit, or probabilities that do not sum to 1.

    >>> image_rgb = np.zeros((4, 6, 3), np.uint8)
    >>> probabilities = np.full((2, 4, 6), 0.5, np.float32)
    >>> getam_lattice.dense_crf(image_rgb, probabilities, iterations=5).shape
    (2, 4, 6)
    """
    image, probabilities = np.asarray(image_rgb), np.asarray(probabilities)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image_rgb: expected uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if probabilities.ndim != 3 or not np.issubdtype(probabilities.dtype, np.floating):
        raise ValueError(f"probabilities: expected floats (L, H, W), got {probabilities.dtype} {probabilities.shape}")
    check_shape("probabilities", probabilities, (len(probabilities), *image.shape[:2]))
    if probabilities.size == 0:
        raise ValueError(f"probabilities: expected at least one label and one pixel, got {probabilities.shape}")
    check_probabilities(probabilities.astype(np.float32, copy=False))
    check_settings(iterations, gaussian, bilateral, negligible)
    check_whole(1, threads=threads)
    planes = image.transpose(2, 0, 1)
    return dense_crf_of_planes(planes, probabilities, iterations, gaussian, bilateral, negligible, threads)


def dense_crf_of_planes(
    planes: np.ndarray,
    probabilities: np.ndarray,
    iterations: int,
    gaussian: Sequence[float],
    bilateral: Sequence[float],
    negligible: float,
    threads: int,
    instruction_set: Optional[str] = None,
) -> np.ndarray:
    """`dense_crf` of an image as planes (3, H, W), without its checks."""
    check_shape("image_rgb", planes, (3, *probabilities.shape[1:]))
    height, width = planes.shape[1:]
    gaussian_kernel = _kept if height * width <= _MOST_KEPT else _gaussian
    (gaussian_xy, gaussian_weight), (bilateral_xy, bilateral_rgb, bilateral_weight) = gaussian, bilateral
    options = {"threads": threads, "instruction_set": instruction_set}
    sigmas = (bilateral_rgb,) * 3
    pairwise = [
        Pairwise(Kernel.of_image(height, width, (bilateral_xy,) * 2, planes, sigmas, **options), bilateral_weight),
        Pairwise(gaussian_kernel(height, width, gaussian_xy, threads, instruction_set), gaussian_weight),
    ]
    return mean_field(pairwise, probabilities, iterations, negligible=negligible, **options)


def _gaussian(height: int, width: int, sigma: float, threads: int, instruction_set: Optional[str]) -> Kernel:
    return Kernel.of_image(height, width, (sigma,) * 2, threads=threads, instruction_set=instruction_set)


# Images of a data set share few sizes, and the Gaussian kernel depends on nothing else. 24 bytes a pixel, 2 x 12 MB.
_MOST_KEPT = 2**19
_kept = lru_cache(2)(_gaussian)
