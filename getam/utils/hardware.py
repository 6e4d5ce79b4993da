"""The machine that computes a result: its processor or GPU, and the peak memory."""

import logging
import os
import platform
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

from getam.utils.checks import check_choice

DEVICES = ("auto", "cpu", "cuda")
_log = logging.getLogger(__name__)


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

    Where `auto` falls back to the CPU, the log says why.

    Raises:
        ValueError: cuda is requested and this GPU does not exist.
    """
    import torch

    check_choice("device", device, DEVICES)
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto" and not there:
        _log.info("device: auto uses the CPU, as torch %s finds no GPU: %s", torch.__version__, _why_no_gpu())
    if device == "cpu" or (device == "auto" and not there):
        return torch.device("cpu")
    if index >= there:
        reason = "" if there else f" ({_why_no_gpu()})"
        raise ValueError(
            f"device: GPU {index} is asked for, torch {torch.__version__} finds {there} here{reason}; auto and cpu do "
            "without"
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _why_no_gpu() -> str:
    """torch's own words: it is built without CUDA, there is no driver, or the driver is too old."""
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return " ".join(str(error).split())
    return "CUDA_VISIBLE_DEVICES hides all of them" if os.environ.get("CUDA_VISIBLE_DEVICES") == "" else "none there"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still allocate: what the machine has free, or less where a control group limits it.

    Clusters and containers limit memory by control groups. Page cache counts as free, in both.

    Args:
        root: folder that holds proc and sys.
    """
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            limits = [int(line.split()[1]) * 2**10]
            break
    else:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0":  # version 2
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = top / path.lstrip("/")
        # Any ancestor may have the limit; in a container the path may name folders outside it.
        limits += [_group_memory(place, *names) for place in (folder, *folder.parents) if place.is_relative_to(top)]
    return max(0, min(limits))


def _group_memory(folder: Path, limit: str, usage: str, cache: str) -> int:
    """Bytes that a control group may still take; a large number where it has no limit."""
    found = _lines(folder / limit)
    used = _lines(folder / usage)
    if not used or not found or found[0] == "max":
        return sys.maxsize
    statistics = dict(line.split() for line in _lines(folder / "memory.stat"))
    return int(found[0]) - int(used[0]) + int(statistics.get(cache, 0))


def peak_resident() -> float:
    """Largest resident size of this process so far, in MiB."""
    # On Linux getrusage is wrong: a process starts with its parent's peak.
    for line in _lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
