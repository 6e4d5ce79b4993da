"""The permutohedral lattice: Gaussian filtering in many dimensions and the dense CRF, in C++, with NumPy alone.

`densecrf` and `utils` have the interface of pydensecrf's modules of these names.
"""

from typing import Any

__all__ = ["Kernel", "dense_crf"]


def __getattr__(name: str) -> Any:
    # NumPy and the library are loaded when they are used.
    if name == "dense_crf":
        from getam_lattice.crf import dense_crf

        return dense_crf
    if name == "Kernel":
        from getam_lattice.kernels import Kernel

        return Kernel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list:
    return __all__
