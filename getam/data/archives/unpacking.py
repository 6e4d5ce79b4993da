"""Unpacking untrusted archives: all files land inside the target folder, or none do."""

import errno
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from getam.utils.files import check_free_space, locked, naming_a_full_disk, read_json, readable_size, write_json
from getam.utils.progress import progress
from getam.utils.provenance import file_digest

MOST_MEMBERS = 2_000_000
MOST_TIMES_LARGER = 20  # than the archive; photographs hardly shrink, annotations five times
_CHUNK = 2**20
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    EOFError,
    NotImplementedError,
    struct.error,
    UnicodeError,
)
# gzip and bz2 raise plain OSErrors for bad data; a seek to a broken offset raises EINVAL.
_DAMAGED_ERRNO = (None, errno.EINVAL)


class _Member(NamedTuple):
    """One entry of an archive: its path, and for a file its announced size and its content."""

    path: PurePosixPath
    size: int = 0
    content: IO[bytes] | None = None


def unpack(
    archive: Path,
    target: Path,
    only: Sequence[str] = (),
    manifest: Path | None = None,
    sha256: str | None = None,
    times_larger: float = MOST_TIMES_LARGER,
) -> dict:
    """Unpacks a tar (also gz, bz2, xz) or zip archive into a folder and returns its manifest.

    One process at a time unpacks an archive into a folder; others wait, and then find it done. The files are written
    to a hidden folder and moved once all of them are complete; then the manifest is written:
    `archive`, its `sha256`, `only`, and the number of `files`, their `bytes` and the `folders` with their numbers of
    files. If a manifest of the same archive and as many files as it counts exist, nothing is done.

    Args:
        only: prefixes of paths, such as `benchmark_RELEASE/dataset/`; other members are left out.
        manifest: path of the manifest; default <target>/<archive's name>.json.
        sha256: of the archive, if it has just been computed.
        times_larger: limit of the total size of its files, as a multiple of the archive's size.

    Raises:
        FileNotFoundError: there is no such archive, or it contains nothing that `only` selects.
        ValueError: it is not an archive, is damaged, or contains paths outside the folder, links, devices, passwords or
            too much data. Nothing is unpacked then.
        OSError: the disk is full.
    """
    if not archive.is_file():
        raise FileNotFoundError(f"no archive {archive}")
    manifest = manifest or target / f"{archive.name}.json"
    made_of = {"archive": archive.name, "sha256": sha256 or file_digest(archive), "only": list(only)}
    if done := _unpacked(target, manifest, made_of):  # without a lock: the folder may be another user's
        return done
    with locked(target / archive.name):
        return _unpacked(target, manifest, made_of) or _unpack_alone(archive, target, manifest, made_of, times_larger)


def _unpacked(target: Path, manifest: Path, made_of: dict) -> dict | None:
    """The manifest of the same archive and parts, if all of its files are there."""
    before = read_json(manifest) if manifest.is_file() else {}
    return before if before.items() >= made_of.items() and _is_complete(target, before) else None


def _unpack_alone(archive: Path, target: Path, manifest: Path, made_of: dict, times_larger: float) -> dict:
    only = made_of["only"]
    manifest.unlink(missing_ok=True)
    staging = target / f".unpacking-{archive.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        _extract(archive, staging, only, archive.stat().st_size * times_larger + 2**20)
        described = {**made_of, **_move(staging, target)}
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    write_json(manifest, described)
    return described


def _is_complete(target: Path, manifest: dict) -> bool:
    return all(
        (target / folder).is_dir() and sum(path.is_file() for path in (target / folder).iterdir()) >= count
        for folder, count in manifest.get("folders", {}).items()
    )


def _extract(archive: Path, staging: Path, only: Sequence[str], limit: float) -> None:
    """Writes the selected files. Raises ValueError for members that an archive must not have."""
    kinds = {PurePosixPath(): False}
    left = limit
    try:
        members = _zip_members(archive, only) if _is_zip(archive) else _tar_members(archive, only)
        for member in progress(members, desc=f"unpack {archive.name}", unit="file"):
            _note(archive, kinds, member)
            if member.content is None:
                continue
            left -= member.size
            if left < 0:
                raise ValueError(f"{archive} is refused: its files would take more than {readable_size(int(limit))}")
            check_free_space(staging, member.size, f"{member.path} of {archive.name}")
            _write(staging / member.path, member.content)
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _DAMAGED_ERRNO:
            raise
        raise ValueError(f"{archive} is damaged, or not a tar or zip archive: {error}") from error
    if not any(staging.iterdir()):
        raise FileNotFoundError(f"{archive} holds no file" + (f" that begins with {' or '.join(only)}" if only else ""))


def _note(archive: Path, kinds: dict[PurePosixPath, bool], member: _Member) -> None:
    """Records files and folders; no path may be both, and no file may appear twice."""
    is_file = member.content is not None
    if len(kinds) >= MOST_MEMBERS:
        raise ValueError(f"{archive} is refused: it has more than {MOST_MEMBERS} members")
    clash = kinds.get(member.path, False) or (is_file and member.path in kinds)
    if clash or any(kinds.get(parent, False) for parent in member.path.parents):
        raise ValueError(f"{archive} is refused: {member.path} is in it twice")
    kinds[member.path] = is_file
    for parent in member.path.parents:
        kinds.setdefault(parent, False)


def _is_zip(archive: Path) -> bool:
    # By its first bytes: zipfile.is_zipfile looks at the end, where a tar may have a zip archive as its last member.
    with archive.open("rb") as file:
        return file.read(2) == b"PK"


def _tar_members(archive: Path, only: Sequence[str]) -> Iterator[_Member]:
    with tarfile.open(archive) as tar:
        for entry in tar:
            path = _checked_path(archive, entry.name)
            if entry.isdir():
                yield _Member(path)
            elif _is_selected(path, only):
                if not entry.isreg():
                    raise ValueError(f"{archive} is refused: {path} is a link or a device")
                yield _Member(path, entry.size, tar.extractfile(entry))
        _check_end(tar)


def _check_end(tar: tarfile.TarFile) -> None:
    """Reads to the end: tarfile takes a broken header for it, and does not read the checksum of a compressed stream."""
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"no member and no end mark at {tar.offset}")
    while tar.fileobj.read(_CHUNK):
        pass


def _zip_members(archive: Path, only: Sequence[str]) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            path = _checked_path(archive, entry.filename)
            if entry.is_dir():
                yield _Member(path)
            elif _is_selected(path, only):
                mode = entry.external_attr >> 16
                if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
                    raise ValueError(f"{archive} is refused: {path} is a link or a device")
                if entry.flag_bits & 1:
                    raise ValueError(f"{archive} is refused: {path} has a password")
                with packed.open(entry) as content:
                    yield _Member(path, entry.file_size, content)


def _checked_path(archive: Path, name: str) -> PurePosixPath:
    name.encode()  # a UnicodeError unless it can be written to the manifest as UTF-8
    path = PurePosixPath(name)
    outside = not name or path.is_absolute() or ".." in path.parts
    if outside or "\\" in name or "\0" in name or PureWindowsPath(name).drive:
        raise ValueError(f"{archive} is refused: {name!r} may be outside the folder")
    return path


def _is_selected(path: PurePosixPath, only: Sequence[str]) -> bool:
    return not only or str(path).startswith(tuple(only))


def _write(path: Path, content: IO[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming_a_full_disk(path), path.open("xb") as file:
        shutil.copyfileobj(content, file, _CHUNK)


def _move(staging: Path, target: Path) -> dict[str, object]:
    """Moves every file into place, replacing existing files; returns their numbers."""
    folders, size = Counter(), 0
    for path in sorted(path for path in staging.rglob("*") if path.is_file()):
        place = target / path.relative_to(staging)
        size += path.stat().st_size
        folders[place.parent.relative_to(target).as_posix()] += 1
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    return {"files": folders.total(), "bytes": size, "folders": dict(sorted(folders.items()))}
