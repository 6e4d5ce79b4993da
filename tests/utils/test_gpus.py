"""GPUs and the processes that take them: real processes with real locks, names in place of GPUs."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 30  # seconds
TAKING = """
import logging, subprocess, sys
from getam.utils.gpus import share_gpu, take_gpus
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Process:
    """A process that takes GPUs when it is told to."""

    def __init__(self, folder: Path):
        self._process = subprocess.Popen(
            [sys.executable, "-c", TAKING],
            env={**os.environ, "GETAM_GPU_LOCKS": str(folder), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def output(self):
        return self._process.stdout

    def begin(self, call: str) -> None:
        self._process.stdin.write(f"{call}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert select.select([self.output], [], [], PATIENCE)[0], "no answer"
        return self.output.readline().strip()

    def take(self, names: str, count: int = 1) -> str:
        self.begin(f"take_gpus({names.split()}, {count})")
        return self.answer()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self.output.close()


@pytest.fixture
def start(tmp_path):
    started = []

    def make() -> Process:
        started.append(Process(tmp_path))
        return started[-1]

    yield make
    for process in started:
        process.kill()


def test_every_process_takes_another_gpu(start):
    assert [start().take("a b c") for _ in range(3)] == ["[0]", "[1]", "[2]"]


def test_a_process_keeps_its_gpu(start):
    first, second = start(), start()
    assert [first.take("a b"), second.take("a b")] == ["[0]", "[1]"]
    assert [first.take("a b"), second.take("a b")] == ["[0]", "[1]"]


def test_numbers_do_not_matter(start):
    """Jobs that see other GPUs number them otherwise."""
    assert start().take("a b c d") == "[0]"
    assert start().take("c a") == "[0]"
    assert start().take("c a d b") == "[2]"


def test_a_killed_process_leaves_its_gpu(start):
    """Two wait; SIGKILL lets one of them go on, and its SIGKILL the other."""
    first, *waiting = start(), start(), start()
    assert first.take("a") == "[0]"
    for process in waiting:
        assert process.take("a").startswith("the GPU is taken by other processes: waiting")
    first.kill()
    ready, _, _ = select.select([process.output for process in waiting], [], [], PATIENCE)
    waiting.sort(key=lambda process: process.output not in ready)
    assert waiting[0].answer() == "[0]"
    assert select.select([waiting[1].output], [], [], 1.5)[0] == []
    waiting[0].kill()
    assert waiting[1].answer() == "[0]"


def test_the_next_answer_of_a_waiting_process_is_its_gpu(start):
    """No second line of the log comes before it."""
    first, second = start(), start()
    assert first.take("a b", 2) == "[0, 1]"
    assert second.take("a b").startswith("fewer than 1 of the 2 GPUs are not taken by other processes: waiting")
    first.kill()
    assert second.answer() == "[0]"


def test_several_are_taken_at_once_or_none(start):
    """What waits for two holds none of them meanwhile."""
    single, pair, other = start(), start(), start()
    assert single.take("a b") == "[0]"
    assert pair.take("a b", 2).startswith("fewer than 2 of the 2 GPUs are not taken")
    assert other.take("a b") == "[1]"
    single.kill()
    other.kill()
    assert pair.answer() == "[0, 1]"


def test_a_named_gpu_is_shared(start):
    first, second = start(), start()
    for process, expected in ((first, "True"), (second, "False")):
        process.begin("share_gpu('a')")
        assert process.answer() == expected
    assert first.take("a b") == "[0]"
    assert second.take("a b") == "[1]"


def test_a_child_shares_the_gpu_of_its_parent(start):
    """It would wait for it in vain; where others are free, it takes one."""
    parent = start()
    assert parent.take("a") == "[0]"
    for names, expected in ((["a"], "[0]"), (["a", "b"], "[1]")):
        code = f"from getam.utils.gpus import take_gpus; print(take_gpus({names}))"
        parent.begin(f"subprocess.check_output([sys.executable, '-c', {code!r}], text=True).strip()")
        assert parent.answer() == expected


def test_many_at_once(start):
    """Each of four GPUs has one of four processes that begin together."""
    processes = [start() for _ in range(4)]
    for process in processes:
        process.begin("take_gpus(['a', 'b', 'c', 'd'])")
    assert sorted(process.answer() for process in processes) == ["[0]", "[1]", "[2]", "[3]"]


def test_locks_of_all_users(start, tmp_path):
    """Everybody may open them, and an older name of a part of a GPU has slashes."""
    assert start().take("MIG-GPU-1/2/0") == "[0]"
    files = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert files == {"getam-gpu-MIG-GPU-1-2-0.lock": 0o666, "getam-gpus.lock": 0o666}
