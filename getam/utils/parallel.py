"""The same function on many files, several at once."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import forkserver, get_context
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_AHEAD = 8  # jobs per worker that wait in the queue: enough to keep it busy, few enough to be iterated lazily
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def available_cores() -> int:
    """The cores that this process may use, which a cluster's scheduler may have made fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_unordered(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """Yields function(job) of every job as it is done, calculated in `workers` processes of one thread each.

    One worker is this process, with its threads. Where there are more, `function` and the jobs must be picklable, and a
    script must call this under `if __name__ == "__main__"`, as a worker imports it. An error of one job ends
    all: jobs that have begun are finished first.
    """
    if workers == 1:
        yield from map(function, jobs)
        return
    waiting = iter(jobs)
    # One clean process imports what this one has of the package, and every worker is a copy of it.
    context = get_context("forkserver")
    context.set_forkserver_preload([name for name in sys.modules if name.split(".")[0] == "getam"])
    _start_server()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        running = {pool.submit(function, job) for job in islice(waiting, workers * _AHEAD)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(function, job) for job in islice(waiting, len(done))}
                for future in done:
                    yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start_server() -> None:
    """Starts the clean process with one thread for the BLAS libraries, which ask the environment as they are loaded."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _one_thread() -> None:
    # Where it comes later, it finds one thread in the environment.
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
