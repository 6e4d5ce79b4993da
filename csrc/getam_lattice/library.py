"""The compiled lattice, called by ctypes: where it lies, its functions, its errors."""

import ctypes
import functools
import os
from ctypes import POINTER, c_char, c_float, c_int, c_void_p
from pathlib import Path

import numpy as np

_ERROR_SIZE = 512

_INTERFACE_VERSION = 2  # csrc/interface.cpp
_ERRORS = {1: ValueError, 2: MemoryError, 3: RuntimeError}  # by the Status of csrc/interface.cpp

# An instruction set that can be asked for; None: the best one of this processor.
PORTABLE = "portable"


@functools.cache
def library() -> ctypes.CDLL:
    """The library with the types of its functions.

    Raises:
        ImportError: it has not been built, or from other sources than these.
    """
    # GETAM_LIBRARY: another build, such as that with sanitizers, which `make sanitize` tests.
    path = Path(os.environ.get("GETAM_LIBRARY") or Path(__file__).with_name("libgetam.so"))
    if not path.exists():
        raise ImportError(
            f"{path} is missing: the lattice has not been built. `make setup` or `pip install .` builds it and needs a "
            "C++ compiler (Debian and Ubuntu: apt-get install g++)"
        )
    loaded = ctypes.CDLL(str(path))
    if not hasattr(loaded, "getam_interface_version") or loaded.getam_interface_version() != _INTERFACE_VERSION:
        raise ImportError(f"{path} was built from other sources than these; `make setup` builds it again")
    ending = [c_int, c_int, c_char * _ERROR_SIZE, c_int]  # threads, portable, error
    loaded.getam_kernel_new.argtypes = [
        POINTER(c_void_p), *[c_int] * 3, *[c_float] * 2, c_int, *[c_void_p] * 2, c_int, *ending
    ]  # fmt: skip
    loaded.getam_kernel_delete.argtypes = [c_void_p]
    loaded.getam_kernel_delete.restype = None
    loaded.getam_kernel_filter.argtypes = [*[c_void_p] * 3, *[c_int] * 2, *ending]
    loaded.getam_bilateral_filter.argtypes = [*[c_void_p] * 3, *[c_int] * 4, *[c_float] * 2, c_int, *ending]
    loaded.getam_mean_field.argtypes = [
        c_int, *[c_void_p] * 3, *[c_int] * 3, c_float, c_void_p, c_int, *[c_void_p] * 2, *ending
    ]  # fmt: skip
    return loaded


def has_avx2() -> bool:
    """Whether the kernels for AVX2 are used instead of the portable ones."""
    return bool(library().getam_has_avx2())


def call(name: str, *arguments) -> None:
    """Calls a function of the library with its arguments but for the last two; its C++ exceptions are raised here."""
    error = (c_char * _ERROR_SIZE)()
    status = getattr(library(), name)(*arguments, error, _ERROR_SIZE)
    if status:
        raise _ERRORS[status](error.value.decode())


def float32(array: np.ndarray) -> np.ndarray:
    """The array as the library reads it; numbers stay without axes."""
    return np.asarray(array, np.float32, order="C")


def address(array: np.ndarray) -> int:
    """Where a contiguous float32 array begins. The caller keeps the array alive during the call."""
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        raise TypeError(f"expected contiguous float32, got {array.dtype} with strides {array.strides}")
    return array.ctypes.data
