"""Archives in a folder of another user, or in one that nobody may write to."""

import hashlib
import os
import shutil
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from getam.data.archives.downloads import fetch
from getam.data.archives.registry import Archive, Lock
from getam.data.archives.unpacking import unpack
from getam.utils.files import locked

SOMEBODY = 12345


@pytest.fixture
def folder():
    """Readable by everybody, unlike pytest's own temporary folders."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


@contextmanager
def as_somebody_else():
    """root becomes another user; anybody else stays, and may not write where the test has removed the permission."""
    if os.geteuid():
        yield
        return
    os.setegid(SOMEBODY)
    os.seteuid(SOMEBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def archive(folder):
    """An archive that another user has fetched and unpacked."""
    (folder / "data").mkdir()
    (folder / "data" / "a.txt").write_text("content")
    with tarfile.open(folder / "a.tar", "w") as tar:
        tar.add(folder / "data" / "a.txt", "a.txt")
    unpack(folder / "a.tar", folder / "unpacked")
    return folder / "a.tar"


def refuse_writing(folder):
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.mark.parametrize("published", [True, False])
def test_what_exists_is_verified_in_a_read_only_folder(folder, archive, published, caplog):
    refuse_writing(folder)
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    wanted = Archive("a", "a.tar", ("http://127.0.0.1:9/a.tar",), sha256=sha256 if published else None)
    with as_somebody_else():
        path, content = fetch(wanted, folder, Lock(folder / "archives.lock.yaml"))
        assert (path, content.sha256) == (archive, sha256)
        assert unpack(archive, folder / "unpacked")["files"] == 1
    assert ("the checksum of a is not recorded" in caplog.text) != published


def test_two_users_of_one_folder(folder, archive):
    """The first user's lock does not lock the second one out where both may write."""
    folder.chmod(0o777)
    with locked(folder / "b.tar"):
        pass
    with as_somebody_else(), locked(folder / "b.tar"):
        (folder / "b.tar").write_bytes(b"content")
    assert (folder / "b.tar").read_bytes() == b"content"
