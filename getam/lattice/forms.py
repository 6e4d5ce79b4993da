"""The form of the lattice on a device: Triton kernels where they run, else torch operations."""

import logging
import os
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from getam.lattice.torch_lattice import TorchLattice
from getam.utils.hardware import has_c_compiler

if TYPE_CHECKING:
    from getam.lattice.triton_lattice import TritonLattice

    Lattice = TorchLattice | TritonLattice

_TOLERANCE = 1e-4  # sums come in any order on a GPU
_log = logging.getLogger(__name__)


def lattice_form(device: torch.device) -> "type[Lattice]":
    """The class of lattices on a device: `TritonLattice` on a GPU where its kernels run, else `TorchLattice`.

    On the first call for a GPU, the kernels are compiled and compared with `TorchLattice`. Where they cannot be used,
    one line of the log says why. With GETAM_LATTICE=torch in the environment they are not tried.
    """
    return _on_gpu(device.index) if device.type == "cuda" else TorchLattice


@cache
def _on_gpu(index: int | None) -> "type[Lattice]":
    reason = _missing() or _refused(torch.device("cuda", index))
    if reason:
        _log.info("the lattice runs in torch operations, not as Triton kernels: %s", reason)
        return TorchLattice
    from getam.lattice.triton_lattice import TritonLattice

    return TritonLattice


def _missing() -> str | None:
    if os.environ.get("GETAM_LATTICE") == "torch":
        return "GETAM_LATTICE=torch asks for it"
    if find_spec("triton") is None:
        return "the package triton is not installed; it comes with torch's builds for CUDA"
    if not has_c_compiler():
        return "triton needs a C compiler, and finds none (gcc, clang, cc or $CC)"
    return None


def _refused(device: torch.device) -> str | None:
    """What goes wrong with the kernels on this device."""
    # Whatever triton raises, for want of Python's headers or of a folder to write to, or for an old GPU.
    try:
        from triton.runtime import driver

        driver.active.get_current_target()
        difference = _difference(device)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None if difference < _TOLERANCE else f"they differ from it by {difference:.1e}, which is a fault: report it"


def _difference(device: torch.device) -> float:
    """Largest difference of both forms, on random points, over the largest value."""
    from getam.lattice.triton_lattice import TritonLattice

    generator = torch.Generator().manual_seed(0)
    features, values = (torch.rand(shape, generator=generator).to(device) for shape in ((5, 200), (200, 3)))
    found, expected = (_filtered(form(8 * features, 2), values) for form in (TritonLattice, TorchLattice))
    return ((found - expected).abs().max() / expected.abs().max()).item()


def _filtered(lattice: "Lattice", values: Tensor) -> Tensor:
    return lattice.filter(lattice.filter(values), transposed=True)
