"""The library built for other processors, under qemu's emulator: the same labels. Debian: qemu-user,
g++-aarch64-linux-gnu."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest

from getam_lattice.__main__ import case
from getam_lattice.crf import dense_crf_of_planes

ROOT = Path(__file__).parents[2]
FLAGS = tomllib.loads((ROOT / "csrc" / "flags.toml").read_text())

# The emulator, the processor that it shows, the compiler, and the kernels that are used there.
PROCESSORS = {
    "aarch64": ("qemu-aarch64", "max", "aarch64-linux-gnu-g++", "portable"),
    "x86-64 without AVX2": ("qemu-x86_64", "Nehalem", "g++", "portable"),
}


def build(folder: Path, compiler: str) -> Path:
    """The program run_library with the lattice in it, as csrc/build_library.py builds the lattice."""
    x86 = compiler == "g++"
    parts = [
        ("lattice", FLAGS["exact"]),
        ("kernels", [*FLAGS["fast"], "-DGETAM_INSTRUCTION_SET=portable"]),
        ("interface", ["-DGETAM_WITH_AVX2"] if x86 else []),
    ]
    if x86:
        parts.append(("kernels", [*FLAGS["fast"], *FLAGS["avx2"], "-DGETAM_INSTRUCTION_SET=avx2"]))
    objects = []
    for source, flags in parts:
        objects.append(str(folder / f"{len(objects)}.o"))
        command = [compiler, *FLAGS["all"], *flags, "-c", str(ROOT / "csrc" / f"{source}.cpp"), "-o", objects[-1]]
        subprocess.run(command, check=True)
    program, main = folder / "run_library", ROOT / "tests" / "lattice" / "run_library.cpp"
    static = ["-static", "-Wl,--whole-archive", "-lpthread", "-Wl,--no-whole-archive"]
    subprocess.run([compiler, "-std=c++17", str(main), *objects, "-pthread", *static, "-o", str(program)], check=True)
    return program


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_labels(tmp_path, processor):
    emulator, shown, compiler, kernels = PROCESSORS[processor]
    for tool in (emulator, compiler):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    program = build(tmp_path, compiler)
    planes, probabilities = case()
    expected = dense_crf_of_planes(planes, probabilities, 10, (3, 3), (30, 13, 4), 0.0, 1)
    for threads in (1, 2):
        sizes = np.array([*planes.shape[1:], len(probabilities), threads], np.int32)
        data = sizes.tobytes() + planes.tobytes() + probabilities.tobytes()
        run = subprocess.run([emulator, "-cpu", shown, str(program)], input=data, capture_output=True, check=True)
        assert run.stderr.decode().split() == [kernels]
        found = np.frombuffer(run.stdout, np.float32).reshape(expected.shape)
        assert np.array_equal(found.argmax(0), expected.argmax(0))
        assert np.abs(found - expected).max() < 1e-5
