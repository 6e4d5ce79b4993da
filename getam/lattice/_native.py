"""The compiled lattice of csrc/, called by ctypes. Tensors are passed as contiguous float32; C++ exceptions are
re-raised in Python. Callers must check that images are finite and settings in range.
"""

import ctypes
import functools
import os
from ctypes import c_char, c_float, c_int, c_void_p
from pathlib import Path

import torch
from torch import Tensor

from getam.utils.checks import check_shape

_ERROR_SIZE = 512

_INTERFACE_VERSION = 1  # csrc/interface.cpp
_ERRORS = {1: ValueError, 2: MemoryError, 3: RuntimeError}  # by the Status of csrc/interface.cpp

# An instruction set that can be asked for; None: the best one of this processor.
PORTABLE = "portable"


@functools.cache
def _library() -> ctypes.CDLL:
    # GETAM_LIBRARY: another build, such as that with sanitizers, which `make sanitize` tests.
    path = Path(os.environ.get("GETAM_LIBRARY") or Path(__file__).with_name("libgetam.so"))
    if not path.exists():
        raise ImportError(
            f"{path} is missing: the lattice has not been built. `make setup` or `pip install .` builds it and needs a "
            "C++ compiler (Debian and Ubuntu: apt-get install g++)"
        )
    library = ctypes.CDLL(str(path))
    if not hasattr(library, "getam_interface_version") or library.getam_interface_version() != _INTERFACE_VERSION:
        raise ImportError(f"{path} was built from other sources than these; `make setup` builds it again")
    error = [c_char * _ERROR_SIZE, c_int]
    library.getam_bilateral_filter.argtypes = [
        *[c_void_p] * 3, *[c_int] * 4, *[c_float] * 2, *[c_int] * 3, *error
    ]  # fmt: skip
    library.getam_mean_field.argtypes = [
        *[c_void_p] * 3, *[c_int] * 4, *[c_float] * 6, *[c_int] * 2, *error
    ]  # fmt: skip
    return library


def has_avx2() -> bool:
    """Whether the kernels for AVX2 are used instead of the portable ones."""
    return bool(_library().getam_has_avx2())


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
    check_shape("images_rgb", images_rgb, (values.shape[0], 3, *values.shape[2:]))
    images_rgb, values = _float32(images_rgb), _float32(values)
    filtered = torch.empty_like(values)
    if filtered.numel():
        batch, channels, height, width = values.shape
        _call(
            _library().getam_bilateral_filter,
            *(tensor.data_ptr() for tensor in (images_rgb, values, filtered)),
            *(batch, channels, height, width, sigma_rgb, sigma_xy),
            *(transposed, threads, instruction_set == PORTABLE),
        )
    return filtered


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
    check_shape("image_rgb", image_rgb, (3, *probabilities.shape[1:]))
    image_rgb, probabilities = _float32(image_rgb), _float32(probabilities)
    marginals = torch.empty_like(probabilities)
    _call(
        _library().getam_mean_field,
        *(tensor.data_ptr() for tensor in (image_rgb, probabilities, marginals)),
        *(*probabilities.shape, iterations, *gaussian, *bilateral, negligible),
        *(threads, instruction_set == PORTABLE),
    )
    return marginals


def _float32(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32).contiguous()


def _call(function, *arguments) -> None:
    error = (c_char * _ERROR_SIZE)()
    status = function(*arguments, error, _ERROR_SIZE)
    if status:
        raise _ERRORS[status](error.value.decode())
