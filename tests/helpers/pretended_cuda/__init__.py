"""A pretended GPU: code for CUDA runs on the CPU, with real values, and its launches and waits are counted.

    begin()             before torch is imported, in a process of its own
    kernels, syncs      what was launched, and where the host waited for the device

A tensor "on cuda:0" holds a tensor of the CPU and refuses what CUDA refuses: tensors of two devices in one operation,
`.numpy()`, a generator of the CPU. It shows no time, no race, and not the numerics of cuDNN, flash attention or NCCL.
"""

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("device.cpp")


def begin():
    """Makes torch believe in the GPU and returns the module `pretended`, whose counters are empty.

    Raises:
        RuntimeError: torch is imported already: it looks for devices only once.
        subprocess.CalledProcessError: the C++ compiler fails.
    """
    if "torch" in sys.modules:
        raise RuntimeError("the pretended GPU has to begin before torch is imported")
    ctypes.CDLL(str(_library()))
    from tests.helpers.pretended_cuda import pretended

    pretended.begin()
    return pretended


def _library() -> Path:
    """The compiled device, built once for each torch and source."""
    torch = Path(importlib.util.find_spec("torch").origin).parent
    key = hashlib.sha256(SOURCE.read_bytes() + (torch / "version.py").read_bytes()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"getam-pretended-cuda-{os.getuid()}-{key}.so"
    if not library.is_file():
        unfinished = library.with_suffix(f".{os.getpid()}")
        command = [os.environ.get("CXX", "g++"), "-std=c++20", "-shared", "-fPIC", str(SOURCE), "-o", str(unfinished)]
        command += [f"-I{torch}/include", f"-L{torch}/lib", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch}/lib"]
        subprocess.run(command, check=True)
        unfinished.replace(library)
    return library
