"""The compiled lattice of getam_lattice on torch tensors of the CPU, which are passed as NumPy arrays."""

import numpy as np
from torch import Tensor, from_numpy

from getam_lattice.crf import dense_crf_of_planes
from getam_lattice.kernels import bilateral_filter as filter_arrays


def bilateral_filter(
    images_rgb: Tensor,
    values: Tensor,
    sigma_rgb: float,
    sigma_xy: float,
    transposed: bool,
    threads: int,
    instruction_set: str | None = None,
) -> Tensor:
    """W values, or W' values, per channel: images (B, 3, H, W), values (B, K, H, W) -> (B, K, H, W)."""
    arrays = as_array(images_rgb), as_array(values)
    return from_numpy(filter_arrays(*arrays, sigma_rgb, sigma_xy, transposed, threads, instruction_set))


def mean_field(
    image_rgb: Tensor,
    probabilities: Tensor,
    iterations: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
    negligible: float,
    threads: int,
    instruction_set: str | None = None,
) -> Tensor:
    """Marginals of a dense CRF: image (3, H, W), probabilities (L, H, W) -> (L, H, W)."""
    arrays = as_array(image_rgb), as_array(probabilities)
    return from_numpy(
        dense_crf_of_planes(*arrays, iterations, gaussian, bilateral, negligible, threads, instruction_set)
    )


def as_array(tensor: Tensor) -> np.ndarray:
    """The tensor's values as float32, without a copy where they are."""
    return tensor.detach().float().numpy()
