"""The registry of archives: their mirrors, sizes and checksums, and the verification of files."""

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from getam.utils.checks import suggestion
from getam.utils.files import locked, readable_size, write_text

SCHEMES = ("http://", "https://", "gdrive:", "onedrive:")
_log = logging.getLogger(__name__)
_EFFECTIVE = os.access in os.supports_effective_ids
_KEYS = {"file", "urls", "size", "sha256", "md5", "page", "instead"}
_CHUNK = 2**20
_LOCK_HEADER = """\
# Written by `getam fetch`: size and sha256 of files without a published sha256, at their first fetch. Later fetches
# must match. To accept a new version, remove its entry.
"""


@dataclass(frozen=True)
class Archive:
    """One file to fetch.

    Attributes:
        name: its key in the registry.
        file: its file name.
        urls: where it is, in the order of trying: http(s) addresses, `gdrive:ID`, `onedrive:SHARE_LINK`.
        size: bytes, where known.
        sha256: hexadecimal, where known; a prefix of at least 8 digits is compared as a prefix.
        md5: hexadecimal, where known.
        page: where a person finds it.
        instead: what a person can do who cannot get it.
    """

    name: str
    file: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    page: str | None = None
    instead: str | None = None

    @property
    def needs_lock(self) -> bool:
        """Whether no full sha256 is published, so that later fetches are compared with the first."""
        return self.sha256 is None or len(self.sha256) < 64


@dataclass(frozen=True)
class Content:
    """Size of a file in bytes, and its checksums in hexadecimal."""

    size: int
    sha256: str
    md5: str | None = None


class Digest:
    """Running size and checksums of a stream of bytes; md5 only if requested."""

    def __init__(self, md5: bool):
        self._sha256 = hashlib.sha256()
        # Some publish only MD5. Here it detects damage; it is not used for security.
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self.size = 0

    def update(self, chunk: bytes) -> None:
        """Adds the next bytes."""
        self.size += len(chunk)
        self._sha256.update(chunk)
        if self._md5:
            self._md5.update(chunk)

    def read(self, path: Path) -> None:
        """Adds a whole file."""
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                self.update(chunk)

    def content(self) -> Content:
        """Size and checksums so far."""
        return Content(self.size, self._sha256.hexdigest(), self._md5.hexdigest() if self._md5 else None)


def read_registry(path: Path) -> dict[str, Archive]:
    """The archives of a YAML file such as config/archives.yaml, by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a registry; the message names the archive and the key.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no registry of archives at {path}")
    archives = {name: _archive(path, name, entry) for name, entry in _read_mapping(path).items()}
    by_file: dict[str, str] = {}
    for name, archive in archives.items():
        other = by_file.setdefault(archive.file, name)
        if other != name:
            raise ValueError(f"{path}: {other} and {name} have the same file name {archive.file}")
    return archives


def _read_mapping(path: Path) -> dict:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected names with their entries, found {type(content).__name__}")
    return content


def _archive(path: Path, name: str, entry: object) -> Archive:
    def check(key: str, right: bool, expected: str) -> None:
        if not right:
            raise ValueError(f"{path}: {name}: {key}: expected {expected}, got {entry.get(key)!r}")

    if not isinstance(entry, dict):
        raise ValueError(f"{path}: {name}: expected keys such as file and urls, got {entry!r}")
    unknown = sorted(map(str, entry.keys() - _KEYS))
    if unknown:
        raise ValueError(f"{path}: {name}: unknown key {unknown[0]!r}; {suggestion(unknown[0], sorted(_KEYS))}")
    file, urls, size = (entry.get(key) for key in ("file", "urls", "size"))
    sound = isinstance(file, str) and re.fullmatch(r"[\w][\w.+-]*", file)
    check("file", bool(sound), "a file name of letters, digits and . _ + -")
    good = isinstance(urls, list) and urls and all(isinstance(url, str) and url.startswith(SCHEMES) for url in urls)
    check("urls", bool(good), f"a list of addresses that begin with {', '.join(SCHEMES)}")
    check("size", size is None or (type(size) is int and size > 0), "a number of bytes")
    check("sha256", _is_hexadecimal(entry.get("sha256"), 8, 64), "8 to 64 hexadecimal digits, in quotes")
    check("md5", _is_hexadecimal(entry.get("md5"), 32, 32), "32 hexadecimal digits, in quotes")
    for key, expected in (("page", "an address"), ("instead", "a sentence")):
        check(key, entry.get(key) is None or isinstance(entry[key], str), expected)
    return Archive(**{**entry, "name": name, "urls": tuple(urls)})


def _is_hexadecimal(value: object, shortest: int, longest: int) -> bool:
    return value is None or (isinstance(value, str) and bool(re.fullmatch(rf"[0-9a-f]{{{shortest},{longest}}}", value)))


class Lock:
    """Sizes and sha256 of first fetches, in a YAML file.

    Raises:
        ValueError: the file is not a lock.
    """

    def __init__(self, path: Path):
        self.path = path
        content = _read_mapping(path) if path.is_file() else {}
        try:
            self._entries = {name: Content(entry["size"], entry["sha256"]) for name, entry in content.items()}
        except (TypeError, KeyError) as error:
            raise ValueError(f"{path}: expected size and sha256 of each archive: {error!r}") from error

    def get(self, archive: Archive) -> Content | None:
        """Size and sha256 of an archive at its first fetch, or None."""
        return self._entries.get(archive.name)

    def record(self, archive: Archive, content: Content) -> None:
        """Adds an entry, unless there is one or the registry has a full sha256."""
        if not archive.needs_lock or archive.name in self._entries:
            return
        if not os.access(self.path if self.path.exists() else self.path.parent, os.W_OK, effective_ids=_EFFECTIVE):
            _log.warning("%s cannot be written: the checksum of %s is not recorded", self.path, archive.name)
            return
        # Other archives are fetched at the same time and add their entries.
        with locked(self.path):
            entries = Lock(self.path)._entries
            if archive.name in entries:
                return
            entries[archive.name] = content
            listed = {name: {"size": entry.size, "sha256": entry.sha256} for name, entry in sorted(entries.items())}
            write_text(self.path, _LOCK_HEADER + yaml.safe_dump(listed, sort_keys=False))
        self._entries = entries


def disagreement(archive: Archive, found: Content, lock: Lock) -> str | None:
    """How a file differs from the archive, or None."""
    if archive.size is not None and found.size != archive.size:
        return f"it has {found.size} bytes, expected {archive.size}"
    if archive.sha256 is not None and not found.sha256.startswith(archive.sha256):
        return f"its sha256 is {found.sha256}, expected {archive.sha256}{'...' if archive.needs_lock else ''}"
    if archive.md5 is not None and found.md5 != archive.md5:
        return f"its md5 is {found.md5}, expected {archive.md5}"
    locked = lock.get(archive)
    if archive.needs_lock and locked and (locked.size, locked.sha256) != (found.size, found.sha256):
        return (
            f"its sha256 is {found.sha256} ({found.size} bytes), the first fetch had {locked.sha256} "
            f"({locked.size} bytes) according to {lock.path}; to accept the new version, remove the entry "
            f"{archive.name} there"
        )
    return None


def verify(archive: Archive, path: Path, lock: Lock) -> Content:
    """Reads a file and returns its size and checksums.

    Raises:
        ValueError: the file is not the archive.
    """
    digest = Digest(md5=archive.md5 is not None)
    digest.read(path)
    problem = disagreement(archive, digest.content(), lock)
    if problem:
        raise ValueError(f"{path} is not {archive.name}: {problem}; move it away to fetch it again")
    return digest.content()


def by_hand(archive: Archive, path: Path, lock: Lock) -> str:
    """Instructions for fetching the file with a browser."""
    where = archive.page or _web_address(archive.urls[0])
    known = lock.get(archive) if archive.needs_lock else None
    facts = [
        readable_size(size) if (size := archive.size or (known and known.size)) else "",
        f"sha256 {sha256}" if (sha256 := known.sha256 if known else archive.sha256) else "",
        f"md5 {archive.md5}" if archive.md5 else "",
    ]
    expected = ", ".join(fact for fact in facts if fact)
    return (
        f"download it by hand from {where}, put it at {path}{f' ({expected})' if expected else ''} and run this again"
        f"{f'; or {archive.instead}' if archive.instead else ''}"
    )


def _web_address(url: str) -> str:
    if url.startswith("gdrive:"):
        return f"https://drive.google.com/file/d/{url.removeprefix('gdrive:')}/view"
    return url.removeprefix("onedrive:")
