"""Fetching archives: interrupted transfers resume, and every file is verified before it gets its name."""

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import gdown
import requests

from getam.data.archives.onedrive import OneDriveError, find_item
from getam.data.archives.registry import Archive, Content, Digest, Lock, by_hand, disagreement, verify
from getam.utils.files import check_free_space, locked, naming_a_full_disk, readable_size
from getam.utils.progress import progress

_CHUNK = 2**14  # bytes; a broken transfer loses less than this
_LONGEST_WAIT = 60.0  # seconds, even if a server asks for more
_DRIVE = "https://drive.google.com/uc?export=download&id="
_TRANSIENT = (408, 425, 429)  # and 5xx
_NO_NETWORK = ("NameResolutionError", "Network is unreachable", "No route to host")
_IN_BYTES = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}


class DownloadError(OSError):
    """No mirror delivered the file; the message has the answer of each, and how to fetch it by hand."""


class _MirrorError(Exception):
    """This mirror cannot deliver the file."""


class _InterruptedError(Exception):
    """The transfer stopped, and may resume after some seconds.

    attempts: how many of the attempts without progress this one counts for.
    """

    def __init__(self, reason: str, wait: float = 0, attempts: int = 1):
        super().__init__(reason)
        self.wait, self.attempts = wait, attempts


class Answer(NamedTuple):
    """The answer of a mirror to one request: whether it has the file, and in words."""

    url: str
    works: bool
    words: str


def fetch(
    archive: Archive,
    folder: Path,
    lock: Lock,
    attempts: int = 6,
    wait: float = 1,
    timeout: tuple[float, float] = (20, 60),
) -> tuple[Path, Content]:
    """The archive's file in `folder` and its verified size and checksums.

    An existing file is only verified. Otherwise the archive is transferred to a hidden partial file, which a later call
    resumes, and which is renamed once it is verified.

    Args:
        lock: checksums of first fetches, for archives without a published sha256; a first fetch is added.
        attempts: requests to a mirror without progress before the next mirror is tried.
        wait: seconds before the second attempt; doubled after each further one.
        timeout: seconds to wait for a connection, and for the next bytes.

    Raises:
        ValueError: the existing file is not the archive; it stays unchanged.
        DownloadError: no mirror delivered it.
        OSError: the disk is full.
    """
    path = folder / archive.file
    if path.exists():  # without a lock: the folder may be another user's
        content = verify(archive, path, lock)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        # One process transfers; others wait, and then find the file.
        with locked(path):
            if path.exists():
                content = verify(archive, path, lock)
            else:
                content = _transfer(archive, path, lock, attempts, wait, timeout)
    lock.record(archive, content)
    return path, content


def ask_mirrors(archive: Archive, timeout: tuple[float, float] = (10, 20)) -> list[Answer]:
    """Asks every mirror for the first byte of an archive, once."""
    return [_ask(archive, url, timeout) for url in archive.urls]


def _ask(archive: Archive, url: str, timeout: tuple[float, float]) -> Answer:
    headers = {"Accept-Encoding": "identity", "Range": "bytes=0-0"}
    drive = url.startswith("gdrive:")
    try:
        with requests.Session() as session:
            address = _DRIVE + url.removeprefix("gdrive:") if drive else _direct(session, url, timeout)
            with session.get(address, headers=headers, stream=True, timeout=timeout) as response:
                if response.status_code not in (200, 206):
                    return Answer(url, False, f"HTTP {response.status_code} {response.reason}")
                if response.headers.get("Content-Type", "").startswith("text/html"):
                    # Google Drive asks people to confirm large files; gdown does that.
                    return Answer(url, drive, "a page that asks for a confirmation" if drive else "a web page")
                length = response.headers.get("Content-Length" if response.status_code == 200 else "Content-Range", "")
    except (OneDriveError, requests.RequestException) as error:
        return Answer(url, False, " ".join(str(error).split()))
    size = length.rpartition("/")[2]
    if archive.size and size.isdecimal() and int(size) != archive.size:
        return Answer(url, False, f"a file of {size} bytes, expected {archive.size}")
    return Answer(url, True, readable_size(int(size)) if size.isdecimal() else "a file")


def _transfer(
    archive: Archive, path: Path, lock: Lock, attempts: int, wait: float, timeout: tuple[float, float]
) -> Content:
    partial = _Partial(archive, path, lock)
    reasons = []
    for url in archive.urls:
        try:
            if url.startswith("gdrive:"):
                _from_drive(url.removeprefix("gdrive:"), partial, attempts, timeout)
            else:
                _from_server(url, partial, attempts, wait, timeout)
            partial.path.replace(path)
            return partial.content
        except _MirrorError as error:
            reasons.append(f"{url}: {error}")
    raise DownloadError("\n  ".join([f"{archive.name} could not be fetched:", *reasons, by_hand(archive, path, lock)]))


class _Partial:
    """The bytes received so far, in a hidden file beside the final one, and their digest.

    Attributes:
        checked: whether a checksum is known, so that bytes from different mirrors may be joined.
        resumed: whether the bytes come from more than one response.
        validator: the server's ETag or date of the version that the bytes belong to.
    """

    def __init__(self, archive: Archive, path: Path, lock: Lock):
        self.archive = archive
        self.path = path.with_name(f".{path.name}.part")
        self._lock = lock
        locked = lock.get(archive) if archive.needs_lock else None
        self.checked = bool(archive.sha256 or archive.md5 or locked)
        self.expected_size = archive.size or (locked.size if locked else None)
        self.clear(keep=self.checked)
        if self.path.exists():
            self.read()

    @property
    def size(self) -> int:
        return self.content.size

    @property
    def content(self) -> Content:
        return self._digest.content()

    @property
    def problem(self) -> str | None:
        """How the complete file differs from the archive, or None."""
        return disagreement(self.archive, self.content, self._lock)

    def clear(self, keep: bool = False) -> None:
        """Removes the received bytes, unless they are kept."""
        if not keep:
            self.path.unlink(missing_ok=True)
        self._digest = Digest(md5=self.archive.md5 is not None)
        self.resumed, self.validator = False, None

    def read(self) -> None:
        """Reads the partial file of an earlier attempt."""
        self._digest.read(self.path)

    def append(self, chunks: Iterable[bytes], total: int | None) -> None:
        """Appends the chunks of a response.

        Raises:
            _MirrorError: the response has more than `total` bytes.
            OSError: the disk is full.
        """
        missing = 0 if total is None else total - self.size
        check_free_space(self.path.parent, missing, f"the rest of {self.archive.file}")
        bar = progress(total=total, initial=self.size, desc=self.archive.file, **_IN_BYTES)
        with naming_a_full_disk(self.path), self.path.open("ab") as file, bar:
            for chunk in chunks:
                if total is not None and self.size + len(chunk) > total:
                    raise _MirrorError(f"sends more than the {total} bytes expected")
                file.write(chunk)
                self._digest.update(chunk)
                bar.update(len(chunk))


def _from_server(url: str, partial: _Partial, attempts: int, wait: float, timeout: tuple[float, float]) -> None:
    """Transfers the verified file into `partial`, or raises _MirrorError."""
    if not partial.checked:
        partial.clear()  # bytes of another mirror may belong to another version
    partial.resumed, partial.validator = partial.size > 0, None
    fruitless, furthest, started_over = 0, partial.size, False
    with requests.Session() as session:
        while True:
            try:
                _receive(session, url, partial, timeout)
            except _InterruptedError as error:
                fruitless = 0 if partial.size > furthest else fruitless + error.attempts
                furthest = max(furthest, partial.size)
                if fruitless >= attempts:
                    raise _MirrorError(f"{error} ({attempts} attempts without progress)") from error
                time.sleep(min(_LONGEST_WAIT, max(error.wait, wait * 2 ** max(0, fruitless - 1))))
                continue
            problem = partial.problem
            if problem is None:
                return
            mixed = partial.resumed
            partial.clear()
            if not mixed or started_over:
                raise _MirrorError(problem)
            furthest, started_over = 0, True  # the parts may belong to different files: once more from the start


def _receive(session: requests.Session, url: str, partial: _Partial, timeout: tuple[float, float]) -> None:
    """One request for the missing bytes; returns when the file has its full size.

    Raises:
        _InterruptedError: the response ended early; the received bytes are in `partial`.
        _MirrorError: the response is not the file.
    """
    if partial.size and partial.size == partial.expected_size:
        return
    if partial.size and not partial.checked and partial.validator is None:
        partial.clear()  # nothing would show whether the rest belongs to the same file
    headers = {"Accept-Encoding": "identity"}
    if partial.size:
        headers["Range"] = f"bytes={partial.size}-"
        if partial.validator:
            headers["If-Range"] = partial.validator
    try:
        with session.get(_direct(session, url, timeout), headers=headers, stream=True, timeout=timeout) as response:
            if _is_whole_already(response, partial):
                return
            total = _announced_size(response, partial)
            partial.validator = _validator(response)
            # Some servers announce a .tgz as a gzip encoding of a .tar: the file is the response without decoding.
            response.raw.headers.pop("Content-Encoding", None)
            partial.append(response.iter_content(_CHUNK), total)
    except OneDriveError as error:
        raise _MirrorError(str(error)) from error
    except (requests.exceptions.SSLError, requests.exceptions.InvalidURL, requests.TooManyRedirects) as error:
        raise _MirrorError(str(error)) from error
    except requests.RequestException as error:
        # Without a network every further attempt fails alike: one more is enough.
        absent = any(sign in str(error) for sign in _NO_NETWORK)
        raise _InterruptedError(f"the connection failed: {error}", attempts=3 if absent else 1) from error
    if total is not None and partial.size < total:
        raise _InterruptedError(f"ended after {partial.size} of {total} bytes")


def _is_whole_already(response: requests.Response, partial: _Partial) -> bool:
    """Whether nothing is missing. Raises for every response that is not a file."""
    if response.status_code == 416:
        if response.headers.get("Content-Range", "").endswith(f"/{partial.size}"):
            return True
        partial.clear()
        raise _InterruptedError("it has no such range of bytes")
    if response.status_code >= 500 or response.status_code in _TRANSIENT:
        asked = response.headers.get("Retry-After", "")
        raise _InterruptedError(f"HTTP {response.status_code}", float(asked) if asked.isdecimal() else 0)
    if response.status_code not in (200, 206):
        raise _MirrorError(f"HTTP {response.status_code} {response.reason}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise _MirrorError("answers with a web page, not with the file")
    return False


def _announced_size(response: requests.Response, partial: _Partial) -> int | None:
    """The size of the whole file, if known. Removes the received bytes where the server starts from the beginning."""
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != partial.size:
            partial.clear()
            raise _InterruptedError("answered with another range of bytes")
        partial.resumed = True
        size = None if found[2] == "*" else int(found[2])
    else:
        length = response.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else None
        if size is None and not partial.checked and "chunked" not in response.headers.get("Transfer-Encoding", ""):
            raise _MirrorError("does not say how large the file is, so a missing part would not be noticed")
    if size == 0:
        raise _MirrorError("sends an empty file")
    if None not in (size, partial.expected_size) and size != partial.expected_size:
        raise _MirrorError(f"its file has {size} bytes, expected {partial.expected_size}")
    if response.status_code == 200:
        partial.clear()
    return size or partial.expected_size


def _validator(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag")
    # A weak ETag does not promise identical bytes.
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _direct(session: requests.Session, url: str, timeout: tuple[float, float]) -> str:
    """The address of the file itself. That of a OneDrive share expires, and so is asked for at every attempt."""
    return find_item(session, url.removeprefix("onedrive:"), timeout).url if url.startswith("onedrive:") else url


def _from_drive(file_id: str, partial: _Partial, attempts: int, timeout: tuple[float, float]) -> None:
    """Transfers the verified file from Google Drive into `partial`, or raises _MirrorError."""
    partial.clear()
    for leftover in partial.path.parent.glob(f"{partial.path.name}?*"):  # left by a gdown that was killed
        leftover.unlink()
    try:
        with naming_a_full_disk(partial.path), progress(desc=partial.archive.file, **_IN_BYTES) as bar:

            def show(done: int, total: int | None) -> None:
                bar.total = total
                bar.update(done - bar.n)

            gdown.download(
                id=file_id,
                output=str(partial.path),
                quiet=True,
                use_cookies=False,
                timeout=timeout,
                retries=attempts - 1,
                progress=show,
            )
    except (gdown.exceptions.DownloadError, gdown.exceptions.FileURLRetrievalError, requests.RequestException) as error:
        raise _MirrorError(" ".join(str(error).split())) from error
    partial.read()
    problem = partial.problem
    if problem:
        partial.clear()
        raise _MirrorError(problem)
