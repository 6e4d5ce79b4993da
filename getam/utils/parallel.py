"""One function on many files, in several processes."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import forkserver, get_context
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_AHEAD = 8  # jobs per worker in the queue: enough to keep it busy, few enough to iterate lazily
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def available_cores() -> int:
    """The cores that this process may use; a cluster's scheduler may have restricted them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_unordered(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """Yields function(job) for every job as it is done, computed in `workers` processes with one thread each.

    With one worker, it is computed in this process, with all its threads. With more, `function` and the jobs must be
    picklable, and a script must call this under `if __name__ == "__main__"`, because workers import it. The error of
    one job ends the iteration, after the running jobs are finished.
    """
    if workers == 1:
        yield from map(function, jobs)
        return
    waiting = iter(jobs)
    # One server process imports the modules of the package that are loaded here; every worker is forked from it.
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
    """Starts the server process with one BLAS thread; the libraries read the environment variables when they load."""
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
    # If torch is imported later, it reads the environment variables.
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
