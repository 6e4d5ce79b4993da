"""Which GPUs of a machine a process takes: each is locked by one process, until that process ends.

A lock is the kernel's (`fcntl.lockf`) on a file named by the GPU, in a folder of the machine's memory: it ends with the
process, however that ends, and children do not inherit it. Programs other than this one do not know of it.

A process whose GPUs are all taken waits. Two trainings that share a GPU may fit in the first phase and run out of
memory hours later, in the joint phase; and both are no faster than one after the other. Who names a GPU (`cuda:1`)
takes it even so: that is how sharing is asked for. A child shares the GPU of its parent: it would wait in vain for it.
"""

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

FOLDER = "GETAM_GPU_LOCKS"  # an environment variable: another folder for the locks
_OF_PARENTS = "GETAM_GPUS_OF_PARENTS"  # an environment variable: the GPUs that the parents of a process hold
_SECONDS = 1  # between two looks
_log = logging.getLogger(__name__)
_parents = list(filter(None, os.environ.get(_OF_PARENTS, "").split(",")))
_held: dict[str, int] = {}  # name -> descriptor of its locked file


def take_gpus(names: Sequence[str], count: int = 1) -> list[int]:
    """Takes `count` of some GPUs and returns their positions in `names`; waits until so many are free.

    All or none, so that two processes that need several do not wait for each other. Those that this process holds
    already come first, then free ones, then those of its parents.

    Args:
        names: what tells a GPU from all others of the machine, however they are numbered for this process.
        count: at most as many as there are names.
    """
    waiting = False
    while (chosen := _take_if_free(names, count)) is None:
        if not waiting:
            what = "the GPU is" if len(names) == 1 else f"fewer than {count} of the {len(names)} GPUs are not"
            _log.info("%s taken by other processes: waiting (--device cuda:0 shares one, cpu does without)", what)
            waiting = True
        time.sleep(_SECONDS)
    return chosen


def share_gpu(name: str) -> bool:
    """Takes a GPU if it is free; returns whether it is this process's now."""
    with _one_at_a_time():
        return _lock(name)


def _take_if_free(names: Sequence[str], count: int) -> list[int] | None:
    with _one_at_a_time():
        before = set(_held)
        chosen: list[int] = []
        for usable in (_held.__contains__, _lock, _parents.__contains__):
            for position, name in enumerate(names):
                if len(chosen) < count and position not in chosen and usable(name):
                    chosen.append(position)
        if len(chosen) == count:
            return sorted(chosen)
        for name in set(_held) - before:
            _release(name)
        return None


def _lock(name: str) -> bool:
    if name in _held:
        return True
    descriptor = _opened(f"getam-gpu-{name.replace('/', '-')}.lock")
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        return False
    _held[name] = descriptor
    _tell_children()
    return True


def _release(name: str) -> None:
    os.close(_held.pop(name))
    _tell_children()


def _tell_children() -> None:
    os.environ[_OF_PARENTS] = ",".join([*_parents, *_held])


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """One process looks for GPUs at a time."""
    descriptor = _opened("getam-gpus.lock")
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _opened(name: str) -> int:
    """A descriptor of a lock file, which all users may open."""
    path, flags = _folder() / name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        # Without O_CREAT: Linux refuses it for a file that another user has made in a folder that all may write to.
        return os.open(path, flags)
    except FileNotFoundError:
        pass
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return os.open(path, flags)
    os.fchmod(descriptor, 0o666)
    return descriptor


def _folder() -> Path:
    """The machine's shared memory: containers with `--ipc=host` see it, and a job's TMPDIR does not change it."""
    if FOLDER in os.environ:
        return Path(os.environ[FOLDER])
    shared = Path("/dev/shm")
    return shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
