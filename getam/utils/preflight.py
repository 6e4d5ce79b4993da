"""Checks of a machine before a long run: a GPU with a driver that fits, free disk, shared memory.

Nothing here imports torch, whose import takes seconds.
"""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from getam.utils.files import readable_size

# The oldest driver for each major version of CUDA (NVIDIA, CUDA compatibility).
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
# Worker processes hand their images over in shared memory; Docker gives a container 64 MiB unless told otherwise.
LEAST_SHARED_MEMORY = 256 * 2**20
_SECONDS = 30


def cuda_of_torch() -> str | None:
    """The CUDA version that the installed torch is built for, such as `13.0`; None for a build without CUDA.

    Raises:
        ModuleNotFoundError: torch is not installed.
    """
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("torch is not installed")
    text = Path(found.origin).with_name("version.py").read_text()
    match = re.search(r"^cuda\b.*=\s*'([\d.]+)'", text, re.MULTILINE)
    return match and match[1]


def gpu_problem(cuda: str | None, jobs: int, command: str = "nvidia-smi") -> str | None:
    """Why the jobs that need a GPU cannot run here, in one line; None if they can.

    Args:
        cuda: the version that torch is built for; None: a build without CUDA.
        jobs: their number, for the message.
        command: the program that lists the GPUs.
    """
    wanted = f"{jobs} jobs need a GPU"
    otherwise = "--config device=cpu runs them on the processor"
    if cuda is None:
        return f"{wanted}, and torch is built without CUDA: `make setup TORCH=locked` installs one with it; {otherwise}"
    try:
        asked = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except FileNotFoundError:
        return f"{wanted}, and there is no {command}: this machine has no NVIDIA driver; {otherwise}"
    except subprocess.TimeoutExpired:
        return f"{wanted}, and {command} has not answered in {_SECONDS} seconds"
    versions = re.findall(r"^\d[\d.]*", done.stdout, re.MULTILINE)
    if done.returncode or not versions:
        said = " ".join((done.stdout + done.stderr).split()) or "no GPU"
        return f"{wanted}, and {command} says: {said}; {otherwise}"
    oldest = OLDEST_DRIVER.get(int(cuda.split(".")[0]))
    if oldest is not None and int(versions[0].split(".")[0]) < oldest:
        return (
            f"the NVIDIA driver {versions[0]} is too old for torch's CUDA {cuda}, which needs {oldest} or newer: "
            "update the driver, or install torch's build for an older CUDA (docs/how-to/install.md)"
        )
    return None


def disk_problems(needed: Mapping[Path, int]) -> list[str]:
    """One line for each disk with less free space than is needed.

    Args:
        needed: bytes that will be written below each folder; the folders need not exist yet. Those on one disk are
            added up.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, size in needed.items():
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        device = there.stat().st_dev
        first, before = disks.get(device, (there, 0))
        disks[device] = first, before + size
    problems = []
    for place, size in disks.values():
        free = shutil.disk_usage(place).free
        if free < size:
            problems.append(f"{place} has {readable_size(free)} free, and about {readable_size(size)} will be written")
    return problems


def shared_memory_problem(place: Path = Path("/dev/shm")) -> str | None:
    """Why the shared memory is too small for worker processes, in one line; None if it suffices or is not known."""
    if not place.is_dir() or (size := shutil.disk_usage(place).total) >= LEAST_SHARED_MEMORY:
        return None
    return (
        f"{place} has {readable_size(size)}, and the processes that load images need about "
        f"{readable_size(LEAST_SHARED_MEMORY)}: start the container with --ipc=host or --shm-size=1g"
    )
