"""What the benchmarks share: the device's name, peak memory of one call, and result files."""

import csv
import multiprocessing
import platform
import re
import resource
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def device_name(device: str) -> str:
    """The GPU's name, or the processor's with the number of threads that torch uses."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    models = [line.split(":", 1)[1].strip() for line in _lines(cpuinfo) if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {torch.get_num_threads()} threads"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def peak_memory(device: str, prepare: Callable[..., Callable[[], object]], *arguments) -> float:
    """MiB that calling `prepare(*arguments)()` needs above what is there after `prepare`.

    On the CPU the call runs in a fresh process, as a process never forgets its peak. `prepare` is a function of a
    module.
    """
    if device == "cuda":
        call = prepare(*arguments)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_grown_peak, (prepare, *arguments))


def _grown_peak(prepare: Callable[..., Callable[[], object]], *arguments) -> float:
    call = prepare(*arguments)
    before = peak_resident()
    call()
    return peak_resident() - before


def peak_resident() -> float:
    """Largest resident size of this process so far, in MiB."""
    # Not getrusage on Linux: there a process starts with its parent's peak.
    for line in _lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def timings(seconds: list[float]) -> dict[str, str]:
    """The columns of a variant's repeated times: their median, the fastest and the slowest."""
    summary = {"seconds": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds)}
    return {column: f"{value:.3f}" for column, value in summary.items()}


def write_results(name: str, device: str, rows: list[dict]) -> Path:
    """Write benchmarks/results/<name>-<device>.csv."""
    short = device.split(" @")[0].split(",")[0]
    slug = re.sub(r"[^a-z0-9]+", "-", short.lower()).strip("-")
    path = RESULTS / f"{name}-{slug}.csv"
    write_table(path, rows)
    return path


def write_table(path: Path, rows: list[dict]) -> None:
    """Write rows with the same keys as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def print_table(rows: list[dict]) -> None:
    """The rows as a Markdown table."""
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + " --- |" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)
