"""Compiles the lattice's Triton kernels for an H100 (sm_90), without one: prints JSON, name -> [PTX, machine code].

python -m tests.helpers.compiled_kernels. The package triton contains ptxas and nvdisasm. The kernels are called as
`TritonLattice` calls them, up to the launch.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from getam.lattice import triton_kernels as kernels
from getam.lattice.triton_lattice import _BLOCK, _EXACT, _geometry


class Driver:
    """What the compiler asks a driver for."""

    def get_current_target(self) -> GPUTarget:
        """An H100."""
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        """The first."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """The default."""
        return 0


def compiled(kernel, *arguments, **constants) -> tuple[str, str]:
    """PTX and machine code."""
    found = kernel.warmup(*arguments, **constants, grid=(1,))
    return found.asm["ptx"], disassembled(found.asm["cubin"])


def disassembled(cubin: bytes) -> str:
    """The instructions of a compiled kernel."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([tool, "-c", file.name], capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Compiles all of them."""
    driver.set_active(Driver())
    found = {}
    block = {"rows": 32, "columns": 32}
    floats, numbers, keys = torch.empty(64), torch.empty(64, dtype=torch.int32), torch.empty(64, dtype=torch.int64)
    for d in (2, 5):
        exact = {**_geometry(d), **_EXACT}
        placed = floats, keys, keys, keys, keys, numbers, floats, 100, 50, 2047
        of_points = {"simplex": d + 1, **block, **_EXACT}
        found[f"measure {d}"] = compiled(kernels.measure, floats, numbers, 100, **exact)
        found[f"place {d}"] = compiled(kernels.place, *placed, **exact)
        found[f"splat {d}"] = compiled(kernels.splat, floats, floats, numbers, floats, 100, 21, **of_points)
        found[f"slice_values {d}"] = compiled(
            kernels.slice_values, floats, floats, numbers, floats, 100, 21, **of_points
        )
    found["link"] = compiled(kernels.link, keys, numbers, keys, numbers, 77, 2047, block_size=_BLOCK)
    found["blur"] = compiled(kernels.blur, floats, numbers, floats, 77, 21, **block, **_EXACT)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
