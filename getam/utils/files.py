"""Files that are written whole or not at all, locks, and checks of files and disks."""

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`: renamed to `path` at the end of the block, removed if the block fails.

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
    """Inside the block, no other process holds the lock of `path`, a file or a folder; others wait.

    The kernel holds the lock, on a hidden file beside `path`, and releases it when a process is killed. The file may be
    written by everybody who may write to its folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock"), mode=path.parent.stat().st_mode & 0o666 | 0o600):
        yield


@contextmanager
def naming_a_full_disk(path: Path) -> Iterator[None]:
    """Adds the file's name to the errors of a full disk, which often lack it."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OSError(error.errno, "the disk is full: could not write", str(path)) from error
        raise


def check_free_space(folder: Path, needed: int, purpose: str) -> None:
    """Raises an OSError, unless the folder's disk has room for `needed` bytes; `purpose` begins the message."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        message = f"{purpose} needs {readable_size(needed)} on the disk, {readable_size(free)} are free"
        raise OSError(errno.ENOSPC, message, str(folder))


def check_present(folder: Path, paths: Sequence[Path], what: str, remedy: str = "") -> None:
    """Raises a FileNotFoundError that names the first missing path, unless all paths, in one folder, exist."""
    missing = missing_files(folder, paths)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        advice = f"; {remedy}" if remedy else ""
        raise FileNotFoundError(f"{len(missing)} of the {len(paths)} {what} are missing: {missing[0]}{more}{advice}")


def missing_files(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """The paths that do not exist; all are in one folder."""
    # One listing: ten thousand `stat` calls on a network disk take minutes.
    there = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    return [path for path in paths if path.name not in there]


def readable_size(size: int) -> str:
    """A number of bytes as text, such as `1.9 GiB`."""
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


def csv_text(rows: Iterable[Sequence]) -> str:
    """Rows as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_json(path: Path, value: object) -> None:
    """Writes an indented JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object, found {type(value).__name__}")
    return value
