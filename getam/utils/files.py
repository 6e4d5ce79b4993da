"""Files that are there whole or not at all."""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A path to write to, beside `path`; it becomes `path` when the block ends well, and is removed when it does not.

    Raises:
        OSError: the disk is full; the message names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with naming_a_full_disk(path):
            yield unfinished
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time works on `path`, a file or a folder; others wait.

    The lock is the kernel's, on a hidden file beside `path`: it does not outlive a process that is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


@contextmanager
def naming_a_full_disk(path: Path) -> Iterator[None]:
    """Gives the errors of a full disk, which often name no file, the name of the file that was to be written."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OSError(error.errno, "the disk is full: could not write", str(path)) from error
        raise


def check_free_space(folder: Path, needed: int, purpose: str) -> None:
    """An OSError that says what is missing, unless the folder's disk has room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        message = f"{purpose} needs {readable_size(needed)} on the disk, {readable_size(free)} are free"
        raise OSError(errno.ENOSPC, message, str(folder))


def check_present(folder: Path, paths: Sequence[Path], what: str, remedy: str = "") -> None:
    """A FileNotFoundError that names the first that is missing, unless all of the paths, in one folder, are there."""
    missing = missing_files(folder, paths)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        advice = f"; {remedy}" if remedy else ""
        raise FileNotFoundError(f"{len(missing)} of the {len(paths)} {what} are missing: {missing[0]}{more}{advice}")


def missing_files(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Those of the paths, all in one folder, that are not there."""
    # One listing: ten thousand questions to a network disk take minutes.
    there = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    return [path for path in paths if path.name not in there]


def readable_size(size: int) -> str:
    """A number of bytes for people: `1.9 GiB`."""
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with written(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file that a person can read, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object, found {type(value).__name__}")
    return value
