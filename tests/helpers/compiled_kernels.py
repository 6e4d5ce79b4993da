"""Compiles the lattice's Triton kernels for an H100 (sm_90), without one: prints JSON, name -> [PTX, machine code].

python -m tests.helpers.compiled_kernels. The package triton contains ptxas and nvdisasm.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from getam.lattice import triton_kernels as kernels
from getam.lattice.triton_lattice import _BLOCK, _EXACT, _geometry

_POINTERS = {
    "lowest": "*i64",
    "units": "*i64",
    "steps": "*i64",
    "slots": "*i32",
    "numbers": "*i32",
    "corners": "*i32",
    "neighbours": "*i32",
    "extremes": "*i32",
}
_SIZES = ("points", "points_of_image", "last_slot", "vertices", "channels")


def compiled(kernel, **constants) -> tuple[str, str]:
    """PTX and machine code of a kernel with these constants. `table` holds keys, or values of vertices."""
    signature, values = {}, {}
    table = "*i64" if kernel in (kernels.place, kernels.link) else "*fp32"
    for i, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name], values[i,] = "constexpr", constants[name]
        else:
            signature[name] = "i32" if name in _SIZES else _POINTERS.get(name, table if name == "table" else "*fp32")
    source = ASTSource(kernel, signature, constexprs=values)
    found = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=dict(_EXACT))
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
    found = {}
    block = {"rows": 32, "columns": 32}
    for d in (2, 5):
        for kernel in (kernels.measure, kernels.place):
            found[f"{kernel.__name__} {d}"] = compiled(kernel, **_geometry(d))
        for kernel in (kernels.splat, kernels.slice_values):
            found[f"{kernel.__name__} {d}"] = compiled(kernel, simplex=d + 1, **block)
    found["link"] = compiled(kernels.link, block_size=_BLOCK)
    found["blur"] = compiled(kernels.blur, **block)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
