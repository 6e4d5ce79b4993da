"""The same function in several processes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from getam.utils.parallel import map_unordered


def _threads(_: int) -> int:
    matrix = np.random.default_rng(0).random((400, 400))
    np.linalg.solve(matrix, matrix @ matrix)
    return len(list(Path("/proc/self/task").iterdir()))


def test_workers_have_one_thread():
    """In a process of its own, whose clean process has not been started by another test."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("threads are counted in /proc")
    script = (
        "from getam.utils.parallel import map_unordered; from tests.utils.test_parallel import _threads\n"
        "if __name__ == '__main__': print(set(map_unordered(_threads, range(4), 2)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "{1}\n"


def test_every_job_once():
    assert sorted(map_unordered(abs, range(-40, 0), 2)) == list(range(1, 41))
