"""Unpacking: whole archives and parts of them, everything that must be refused, and interruptions."""

import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from getam.cli.command import main
from getam.data.archives.unpacking import unpack
from getam.utils.files import read_json
from getam.utils.provenance import file_digest

FILES = {
    "VOCdevkit/VOC2012/JPEGImages/a.jpg": b"first",
    "VOCdevkit/VOC2012/JPEGImages/b.jpg": b"second",
    "VOCdevkit/VOC2012/readme.txt": b"",
    "other/c.txt": b"third" * 100,
}


def write_tar(path: Path, files: dict[str, bytes] = FILES, mode: str = "w", entries: tuple = ()) -> Path:
    with tarfile.open(path, mode) as tar:
        folder = tarfile.TarInfo("VOCdevkit")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o000
        tar.addfile(folder)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o4777
            tar.addfile(entry, io.BytesIO(content))
        for entry in entries:
            tar.addfile(entry)
    return path


def write_zip(path: Path, files: dict[str, bytes] = FILES, entries: tuple = ()) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("VOCdevkit/", b"")
        for name, content in files.items():
            packed.writestr(name, content)
        for entry, content in entries:
            packed.writestr(entry, content)
    return path


def found_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".json", ".lock"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def left_in(folder: Path) -> list[str]:
    """But for locks, which stay."""
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_round_trip(tmp_path, kind):
    archive = tmp_path / "archive"
    write_zip(archive) if kind == "zip" else write_tar(archive, mode=kind)
    manifest = unpack(archive, tmp_path / "out")
    assert found_in(tmp_path / "out") == FILES
    expected = {
        "archive": "archive",
        "sha256": file_digest(archive),
        "only": [],
        "files": 4,
        "bytes": 511,
        "folders": {"VOCdevkit/VOC2012": 1, "VOCdevkit/VOC2012/JPEGImages": 2, "other": 1},
    }
    assert manifest == expected
    assert read_json(tmp_path / "out" / "archive.json") == expected
    assert not any(name.startswith(".") for name in left_in(tmp_path / "out"))
    mode = (tmp_path / "out" / "other" / "c.txt").stat().st_mode
    assert not mode & (stat.S_ISUID | stat.S_IXUSR)


def test_a_part(tmp_path):
    link = tarfile.TarInfo("other/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive = write_tar(tmp_path / "a.tar", entries=(link,))
    manifest = unpack(archive, tmp_path / "out", only=["VOCdevkit/VOC2012/JPEGImages/"], manifest=tmp_path / "m.json")
    assert found_in(tmp_path / "out").keys() == {name for name in FILES if "JPEGImages" in name}
    assert read_json(tmp_path / "m.json") == manifest
    with pytest.raises(FileNotFoundError, match=r"a\.tar holds no file that begins with SBD/"):
        unpack(archive, tmp_path / "none", only=["SBD/"])


def test_two_archives_into_one_folder(tmp_path):
    unpack(write_tar(tmp_path / "trainval.tar"), tmp_path / "out")
    unpack(write_tar(tmp_path / "test.tar", {"VOCdevkit/VOC2012/JPEGImages/t.jpg": b"test"}), tmp_path / "out")
    assert found_in(tmp_path / "out") == {**FILES, "VOCdevkit/VOC2012/JPEGImages/t.jpg": b"test"}


def test_done_once(tmp_path):
    archive, out = write_tar(tmp_path / "a.tar"), tmp_path / "out"
    unpack(archive, out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    unpack(archive, out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times
    (out / "other" / "c.txt").unlink()
    unpack(archive, out)
    assert found_in(out) == FILES
    write_tar(archive, {**FILES, "other/c.txt": b"new"})
    unpack(archive, out)
    assert found_in(out)["other/c.txt"] == b"new"


def tar_entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (tar_entry("../outside"), "'../outside' may be outside the folder"),
        (tar_entry("VOCdevkit/../../outside"), "may be outside"),
        (tar_entry("/tmp/outside"), "'/tmp/outside' may be outside"),
        (tar_entry("C:/outside"), "may be outside"),
        (tar_entry("a\\..\\outside"), "may be outside"),
        (tar_entry("../folder", tarfile.DIRTYPE), "may be outside"),
        (tar_entry("link", tarfile.SYMTYPE, "/etc"), "link is a link or a device"),
        (tar_entry("link", tarfile.SYMTYPE, "other"), "link is a link or a device"),
        (tar_entry("link", tarfile.LNKTYPE, "other/c.txt"), "link is a link or a device"),
        (tar_entry("device", tarfile.CHRTYPE), "device is a link or a device"),
        (tar_entry("pipe", tarfile.FIFOTYPE), "pipe is a link or a device"),
        (tar_entry("other/c.txt"), "other/c.txt is in it twice"),
        (tar_entry("./other/c.txt"), "other/c.txt is in it twice"),
        (tar_entry("other"), "other is in it twice"),
        (tar_entry("other/c.txt/d"), "other/c.txt/d is in it twice"),
        (tar_entry("other/c.txt", tarfile.DIRTYPE), "other/c.txt is in it twice"),
    ],
)
def test_refused(tmp_path, entry, reason):
    """The bad entry comes last: what was written before it does not stay either."""
    archive = write_tar(tmp_path / "a.tar", entries=(entry,))
    with pytest.raises(ValueError, match=r"a\.tar is refused") as caught:
        unpack(archive, tmp_path / "out")
    assert reason in str(caught.value)
    assert left_in(tmp_path / "out") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "out"]


def zip_entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr, entry.create_system = mode << 16, 3
    return entry


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (zip_entry("../outside"), "may be outside"),
        (zip_entry("/outside"), "may be outside"),
        (zip_entry("link", stat.S_IFLNK | 0o777), "link is a link or a device"),
        (zip_entry("device", stat.S_IFCHR | 0o777), "device is a link or a device"),
    ],
)
def test_refused_in_a_zip(tmp_path, entry, reason):
    archive = write_zip(tmp_path / "a.zip", entries=((entry, b"/etc/passwd"),))
    with pytest.raises(ValueError, match=reason):
        unpack(archive, tmp_path / "out")
    assert left_in(tmp_path / "out") == []


def test_password(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a": b"x"})
    content = bytearray(archive.read_bytes())
    content[content.rindex(b"PK\x01\x02", 0, content.rindex(b"a")) + 8] |= 1  # the flag in the central directory
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="a has a password"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "w:gz"])
def test_bomb(tmp_path, kind):
    bomb = {f"zeros{i}": bytes(10_000_000) for i in range(3)}
    archive = tmp_path / "bomb"
    write_zip(archive, bomb) if kind == "zip" else write_tar(archive, bomb, kind)
    assert archive.stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"bomb is refused: its files would take more than \d\.\d MiB"):
        unpack(archive, tmp_path / "out")
    assert left_in(tmp_path / "out") == []
    assert unpack(archive, tmp_path / "out", times_larger=2000)["bytes"] == 30_000_000


def test_a_lying_header_does_not_help(tmp_path):
    """A zip that announces 10 bytes of a million: no more than the 10 are read, and they are not what was packed."""
    archive = write_zip(tmp_path / "a.zip", {"zeros": bytes(1_000_000)})
    content = bytearray(archive.read_bytes())
    for position in range(len(content) - 4):
        if content[position : position + 4] == (1_000_000).to_bytes(4, "little"):
            content[position : position + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        unpack(archive, tmp_path / "out")
    assert left_in(tmp_path / "out") == []


@pytest.mark.parametrize("kind", ["w", "w:gz", "zip"])
def test_damaged(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes()
    archive, files = tmp_path / "archive", {"a": b"whole", "b": noise}
    write_zip(archive, files) if kind == "zip" else write_tar(archive, files, kind)
    archive.write_bytes(archive.read_bytes()[:100_000])
    with pytest.raises(ValueError, match="archive is damaged, or not a tar or zip archive"):
        unpack(archive, tmp_path / "out")
    assert left_in(tmp_path / "out") == []
    archive.write_text("<html>")
    with pytest.raises(ValueError, match="archive is damaged, or not a tar or zip archive"):
        unpack(archive, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no archive"):
        unpack(tmp_path / "none.tar", tmp_path / "out")


@pytest.mark.parametrize("where", ["between", "in a header", "before the end mark"])
def test_a_tar_that_ends_early(tmp_path, where):
    """tarfile itself takes the missing rest for the end."""
    archive = write_tar(tmp_path / "archive.tar")
    with tarfile.open(archive) as tar:
        starts = [entry.offset for entry in tar]
        end = tar.offset
    length = {"between": starts[2], "in a header": starts[2] + 100, "before the end mark": end}[where]
    archive.write_bytes(archive.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"archive\.tar is damaged"):
        unpack(archive, tmp_path / "out")
    assert left_in(tmp_path / "out") == []


def test_a_broken_header(tmp_path):
    archive = write_tar(tmp_path / "archive.tar")
    with tarfile.open(archive) as tar:
        start = tar.getmembers()[2].offset
    content = bytearray(archive.read_bytes())
    content[start] ^= 1
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"archive\.tar is damaged"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", ["w:gz", "w:bz2", "w:xz"])
def test_the_checksum_of_a_stream(tmp_path, kind):
    """It stands at the end, where tarfile need not read any more."""
    archive = write_tar(tmp_path / "archive", mode=kind)
    content = bytearray(archive.read_bytes())
    content[-7] ^= 1
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="archive is damaged"):
        unpack(archive, tmp_path / "out")


def test_a_tar_with_a_zip_at_its_end(tmp_path):
    inner = write_zip(tmp_path / "inner.zip").read_bytes()
    manifest = unpack(write_tar(tmp_path / "a.tar", {**FILES, "inner.zip": inner}), tmp_path / "out")
    assert manifest["files"] == len(FILES) + 1
    assert found_in(tmp_path / "out") == {**FILES, "inner.zip": inner}


@pytest.mark.parametrize("what", ["offset", "name"])
def test_a_broken_directory_of_a_zip(tmp_path, what):
    archive = write_zip(tmp_path / "a.zip")
    content = bytearray(archive.read_bytes())
    entry, end = content.index(b"PK\x01\x02"), content.rindex(b"PK\x05\x06")
    if what == "offset":
        content[end + 16 : end + 20] = b"\xff\xff\xff\x7f"
    else:
        content[entry + 8 : entry + 10] = b"\x00\x08"  # the name is in UTF-8
        content[entry + 46] = 0xFF
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip is damaged"):
        unpack(archive, tmp_path / "out")


def test_a_name_that_is_no_text(tmp_path):
    archive = write_tar(tmp_path / "a.tar", {"folder\udcff/a": b""})
    with pytest.raises(ValueError, match=r"a\.tar is damaged.*can't encode"):
        unpack(archive, tmp_path / "out")
    assert left_in(tmp_path / "out") == []


def test_a_tar_of_the_folder_itself(tmp_path):
    """As `tar -C folder -c .` makes it; a file in the place of the folder is refused."""
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        tar.addfile(tarfile.TarInfo("./a"))
    assert unpack(archive, tmp_path / "out")["folders"] == {".": 1}
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo("."))
    with pytest.raises(ValueError, match="is in it twice"):
        unpack(archive, tmp_path / "out")


def test_killed_while_unpacking(tmp_path):
    """SIGKILL: no manifest, nothing in place; the next run does it all and cleans up."""
    files = {f"folder/{i:05d}.txt": os.urandom(100) for i in range(20_000)}
    archive, out = write_tar(tmp_path / "many.tar", files), tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "getam.cli", "unpack", archive, "--into", out], stderr=subprocess.DEVNULL
    )
    staging = out / ".unpacking-many.tar" / "folder"
    deadline = time.monotonic() + 30
    while not (staging.is_dir() and any(staging.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert left_in(out) == [".unpacking-many.tar"]
    assert unpack(archive, out)["files"] == 20_000
    assert found_in(out) == files


def test_two_at_once(tmp_path):
    """The second waits for the first, and finds its work."""
    files = {f"folder/{i:05d}.txt": b"" for i in range(3_000)}
    archive, out = write_tar(tmp_path / "many.tar", files), tmp_path / "out"
    command = [sys.executable, "-m", "getam.cli", "unpack", archive, "--into", out]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert sum("unpack many.tar" in text for text in errors) == 1
    assert found_in(out) == files


def test_full_disk(small_disk, tmp_path):
    archive = write_tar(tmp_path / "a.tar", {"a": os.urandom(700_000), "b": os.urandom(700_000)})
    command = f"{sys.executable} -m getam.cli unpack {archive} --into $0/out; find $0/out -type f ! -name '*.lock'"
    done = subprocess.run(small_disk("sh", "-c", command), capture_output=True, text=True, check=False)
    assert "b of a.tar needs 683.6 KiB on the disk" in done.stderr
    assert done.stdout.splitlines() == ["a.tar is not in config/archives.yaml: unpacked unverified"]


def test_command(tmp_path, capsys):
    archive = write_tar(tmp_path / "a.tar")
    registry = tmp_path / "archives.yaml"
    registry.write_text(f'a: {{file: a.tar, urls: ["http://x"], sha256: "{file_digest(archive)}"}}')
    command = ["unpack", str(archive), "--into", str(tmp_path / "out"), "--registry", str(registry)]
    assert main([*command, "--only", "other"]) == 0
    assert capsys.readouterr().out == f"other: 1 files\n1 files, 500 bytes in {tmp_path / 'out'}\n"
    with archive.open("ab") as file:
        file.write(b"more")
    assert main(command) == 1
    assert "a.tar is not a: its sha256 is" in capsys.readouterr().err
