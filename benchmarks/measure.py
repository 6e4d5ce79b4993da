"""Helpers of the benchmarks: peak memory of a call, summaries of times, and result files."""

import csv
import multiprocessing
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import torch

from getam.utils.hardware import peak_resident

RESULTS = Path(__file__).parent / "results"


def peak_memory(device: str, prepare: Callable[..., Callable[[], object]], *arguments) -> float:
    """Peak memory in MiB of calling `prepare(*arguments)()`, beyond the memory in use after `prepare`.

    On the CPU the call runs in a new process, as a process's peak cannot be reset; `prepare` must be a function of a
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


def timings(seconds: list[float]) -> dict[str, str]:
    """The columns of a variant's repeated times: median, fastest and slowest."""
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
    """Write rows with equal keys as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def report_table(name: str, rows: list[dict]) -> None:
    """Print rows with equal keys, write benchmarks/results/<name>.csv, and say so."""
    print_table(rows)
    path = RESULTS / f"{name}.csv"
    write_table(path, rows)
    print(f"written to {path}")


def print_table(rows: list[dict]) -> None:
    """The rows as a Markdown table."""
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + " --- |" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)
