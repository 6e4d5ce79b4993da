"""Time, memory and files of a command with all its child processes."""

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_SECONDS = 0.5  # between two looks


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Attributes:
        seconds: of the clock.
        cpu_seconds: of all processors together.
        memory_mib: the largest memory of all its processes together; pages that several share are counted once.
        largest_mib: the largest resident size of a single process.
    """

    seconds: float
    cpu_seconds: float
    memory_mib: float
    largest_mib: float


def measure(command: Sequence[str], folder: Path, environment: dict[str, str], log: Path) -> Measured:
    """Runs a command in a folder, its output into a log.

    Memory and processor time are looked at twice a second, so that shorter peaks are missed.

    Raises:
        SystemExit: it failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start, memory, largest, spent = time.monotonic(), 0.0, 0.0, {}
    with log.open("w") as output:
        running = psutil.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            while running.poll() is None:
                together = 0.0
                for process in _tree(running):
                    with suppress(psutil.Error):
                        found, times = process.memory_full_info(), process.cpu_times()
                        together += found.pss / 2**20
                        largest = max(largest, found.rss / 2**20)
                        spent[process.pid] = times.user + times.system
                memory = max(memory, together)
                time.sleep(_SECONDS)
        finally:
            if running.poll() is None:
                running.terminate()
                running.wait()
    if running.returncode:
        raise SystemExit(f"{' '.join(command)[:300]} failed, see {log}:\n{log.read_text()[-2000:]}")
    return Measured(time.monotonic() - start, sum(spent.values()), memory, largest)


def _tree(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return []


def count_files(paths: Sequence[Path]) -> int:
    """Files at or below the paths."""
    return sum(path.is_file() + sum(len(names) for _, _, names in os.walk(path)) for path in paths)
