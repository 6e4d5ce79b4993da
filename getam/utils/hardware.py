"""The machine that computes a result: its processor or GPU, and the peak memory."""

import logging
import os
import platform
import re
import resource
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

from getam.utils.gpus import share_gpu, take_gpus

_log = logging.getLogger(__name__)


def device_name(device: str) -> str:
    """The GPU's name, or the processor's with the number of threads that torch uses."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    models = [line.split(":", 1)[1].strip() for line in _lines(cpuinfo) if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {torch.get_num_threads()} threads"


def check_device(device: str) -> str:
    """Returns `device`; raises a ValueError unless it is auto, cpu, cuda, or cuda and a number, such as cuda:1."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError(f"device: expected one of auto, cpu, cuda, cuda:N, got {device!r}")
    return device


def choose_device(device: str = "auto") -> "torch.device":
    """The torch device of this process, which becomes torch's current one; see `choose_devices`."""
    import torch

    chosen = choose_devices(device, 1)[0]
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    return chosen


def choose_devices(device: str, count: int) -> "list[torch.device]":
    """As many torch devices as there are processes here that work together: different GPUs, or the CPU for each.

    GPUs are taken as `getam.utils.gpus` describes it, by this process and until it ends: of those that torch finds
    (CUDA_VISIBLE_DEVICES, as SLURM sets it, hides others), the first that no other process has taken, after waiting
    for one if need be. Where `auto` falls back to the CPU, the log says why.

    Args:
        device: cpu; cuda: free GPUs; auto: free GPUs if there are any GPUs, else the CPU; cuda:N: GPU N of those that
            torch finds, shared with other processes if it is taken.

    Raises:
        ValueError: there are not so many GPUs, or cuda:N is for several processes.
    """
    import torch

    check_device(device)
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto" and not there:
        _log.info("device: auto uses the CPU, as torch %s finds no GPU: %s", torch.__version__, _why_no_gpu())
    if device == "cpu" or (device == "auto" and not there):
        return [torch.device("cpu")] * count
    name, _, number = device.partition(":")
    if number and count > 1:
        raise ValueError(
            f"device: {device} is one GPU, for {count} processes: expected {name}, which takes one for each"
        )
    last = int(number) if number else count - 1
    if last >= there:
        reason = "" if there else f" ({_why_no_gpu()})"
        raise ValueError(
            f"device: GPU {last} is asked for, torch {torch.__version__} finds {there} here{reason}; auto and cpu do "
            "without"
        )
    names = _gpu_names(there)
    if not number:
        return [torch.device("cuda", index) for index in take_gpus(names, count)]
    if not share_gpu(names[last]):
        _log.info("device: %s is taken by another process; it is shared, as it was asked for by its number", device)
    return [torch.device("cuda", last)]


def _gpu_names(count: int) -> list[str]:
    """What tells each visible GPU from all others of this machine, whichever of them are visible: its UUID.

    A GPU has one number in a job that sees it alone and another one in a job that sees all. Parts of a GPU (MIG) are
    listed by UUIDs of their own, while torch may report that of the whole.
    """
    import torch

    visible = [entry.strip() for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    listed = dict(enumerate(filter(None, visible)))
    names = []
    for index in range(count):
        name = listed.get(index, str(index))
        uuid = None if name.startswith("MIG-") else getattr(torch.cuda.get_device_properties(index), "uuid", None)
        names.append(name if uuid is None else str(uuid))
    return names


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


def has_c_compiler() -> bool:
    """Whether Triton finds the C compiler that it needs when it runs."""
    return any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang")))
