"""The machine that computes a result: its processor or GPU, and the peak memory."""

import platform
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

from getam.utils.checks import check_choice

DEVICES = ("auto", "cpu", "cuda")


def device_name(device: str) -> str:
    """The GPU's name, or the processor's with the number of threads that torch uses."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    models = [line.split(":", 1)[1].strip() for line in _lines(cpuinfo) if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {torch.get_num_threads()} threads"


def choose_device(device: str = "auto", index: int = 0) -> "torch.device":
    """The torch device for one of `DEVICES`; `index` selects one of several GPUs.

    Raises:
        ValueError: cuda is requested and this GPU does not exist.
    """
    import torch

    check_choice("device", device, DEVICES)
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cpu" or (device == "auto" and not there):
        return torch.device("cpu")
    if index >= there:
        raise ValueError(
            f"device: GPU {index} is asked for, torch {torch.__version__} finds {there} here; auto and cpu do without"
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def peak_resident() -> float:
    """Largest resident size of this process so far, in MiB."""
    # On Linux getrusage is wrong: a process starts with its parent's peak.
    for line in _lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
