"""Downloads against a real server that behaves badly, and the registry and lock that say what is right."""

import base64
import errno
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gdown
import numpy as np
import pytest
import requests

from getam.cli.command import main
from getam.data.archives import onedrive
from getam.data.archives.downloads import DownloadError, fetch
from getam.data.archives.registry import Archive, Lock, read_registry
from tests.helpers.file_server import FileServer, Handler, serving

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()
OTHER = np.random.default_rng(1).integers(0, 256, 300_000, np.uint8).tobytes()
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()
FILE = "archive.tar"
PART = 5 * 2**14  # what a broken transfer leaves is whole chunks of the downloader
FAST = {"wait": 0.01, "timeout": (2, 2)}


@pytest.fixture
def server():
    with serving() as running:
        running.files["/good"] = CONTENT
        yield running


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "archives"


@pytest.fixture
def lock(tmp_path) -> Lock:
    return Lock(tmp_path / "archives.lock.yaml")


def archive(server: FileServer, *paths: str, size: int | None = len(CONTENT), sha256: str | None = SHA256, **more):
    return Archive("name", FILE, tuple(server.url(path) for path in paths), size, sha256, **more)


def get(wanted: Archive, folder: Path, lock: Lock, **options) -> None:
    """Fetches, and checks that the right file and no other is there."""
    path, content = fetch(wanted, folder, lock, **{**FAST, **options})
    assert path == folder / FILE
    assert path.read_bytes() == CONTENT
    assert (content.size, content.sha256) == (len(CONTENT), SHA256)
    assert visible(folder) == [FILE]
    assert not (folder / f".{FILE}.part").exists()


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def failure(wanted: Archive, folder: Path, lock: Lock, **options) -> str:
    """The message of a fetch that must fail and leave no file."""
    with pytest.raises(DownloadError) as caught:
        fetch(wanted, folder, lock, **{**FAST, "attempts": 2, **options})
    assert visible(folder) == []
    return str(caught.value)


def test_download(server, folder, lock, capsys):
    get(archive(server, "/good", md5=MD5), folder, lock)
    assert "archive.tar" in capsys.readouterr().err
    # A file that is there is verified, not fetched.
    get(archive(server, "/good"), folder, lock)
    assert len(server.ranges["/good"]) == 1
    assert not lock.path.exists()


@pytest.mark.parametrize("announce", [True, False])
def test_dropped_connection_is_resumed(server, folder, lock, announce):
    def drop_twice(handler):
        stop_after = PART if handler.attempt <= 2 else None
        handler.send_file(CONTENT, stop_after=stop_after, announce=announce or stop_after is not None)

    server.behaviours["/drops"] = drop_twice
    get(archive(server, "/drops"), folder, lock)
    assert server.ranges["/drops"] == [None, f"bytes={PART}-", f"bytes={2 * PART}-"]


def test_progress_resets_the_attempts(server, folder, lock):
    server.behaviours["/slow"] = lambda handler: handler.send_file(CONTENT, stop_after=3 * 2**14)
    get(archive(server, "/slow"), folder, lock, attempts=2)
    assert len(server.ranges["/slow"]) == 7


def test_ranges_ignored(server, folder, lock):
    def ignore(handler):
        handler.send_file(CONTENT, ranges=False, stop_after=PART if handler.attempt == 1 else None)

    server.behaviours["/ignores"] = ignore
    get(archive(server, "/ignores"), folder, lock)
    assert server.ranges["/ignores"] == [None, f"bytes={PART}-"]


def test_wrong_range(server, folder, lock):
    def other_range(handler):
        if handler.attempt == 2:
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes 0-99/{len(CONTENT)}")
            handler.send_header("Content-Length", "100")
            handler.end_headers()
            handler.wfile.write(CONTENT[:100])
        else:
            handler.send_file(CONTENT, stop_after=PART if handler.attempt == 1 else None)

    server.behaviours["/other"] = other_range
    get(archive(server, "/other"), folder, lock)
    assert server.ranges["/other"] == [None, f"bytes={PART}-", None]


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (lambda handler: handler.send_error(404), "HTTP 404"),
        (lambda handler: handler.send_error(403), "HTTP 403"),
        (lambda handler: handler.send_error(503), "HTTP 503"),
        (lambda handler: handler.send_file(b"<html>" * 99, kind="text/html; charset=utf-8"), "web page"),
        (lambda handler: handler.send_file(OTHER), "its sha256 is"),
        (lambda handler: handler.send_file(CONTENT[:200_000]), "its file has 200000 bytes, expected 300000"),
        (lambda handler: handler.send_file(CONTENT[:200_000], announce=False), "it has 200000 bytes, expected 300000"),
        (lambda handler: handler.send_file(CONTENT + b"more", announce=False), "sends more than the 300000"),
        (lambda handler: handler.send_file(CONTENT, stop_after=0), "the connection failed"),
    ],
)
def test_the_mirror_works(server, folder, lock, behave, reason):
    """Whatever is wrong with the first: the second brings the file; alone, the error says what was wrong."""
    server.behaviours["/bad"] = behave
    get(archive(server, "/bad", "/good"), folder, lock, attempts=2)
    (folder / FILE).unlink()
    message = failure(archive(server, "/bad"), folder, lock)
    assert f"{server.url('/bad')}: " in message
    assert reason in message


def test_busy_server(server, folder, lock):
    def busy(handler):
        if handler.attempt < 4:
            handler.send_response(503 if handler.attempt < 3 else 429)
            handler.send_header("Retry-After", "0")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            handler.send_file(CONTENT)

    server.behaviours["/busy"] = busy
    get(archive(server, "/busy"), folder, lock)


def test_silent_server(server, folder, lock):
    """A server that says nothing is given up after the timeout."""
    over = threading.Event()
    server.behaviours["/silent"] = lambda handler: over.wait(20)
    try:
        get(archive(server, "/silent", "/good"), folder, lock, attempts=1, timeout=(1, 0.3))
    finally:
        over.set()


def test_nobody_there(folder, lock):
    message = failure(Archive("name", FILE, ("http://127.0.0.1:9/a",), 7, "ab" * 32, page="http://page"), folder, lock)
    assert "http://127.0.0.1:9/a: the connection failed" in message
    assert f"download it by hand from http://page, put it at {folder / FILE} (7 bytes, sha256 {'ab' * 32})" in message
    assert "run this again" in message


def test_killed_and_resumed(server, folder, lock, tmp_path):
    """SIGKILL in the middle: the next process asks for the rest."""
    server.behaviours["/slow"] = lambda handler: (
        handler.send_file(CONTENT[:150_000] + CONTENT[150_000:], stop_after=150_000),
        time.sleep(30),
    )[0]
    registry = tmp_path / "archives.yaml"
    registry.write_text(f'name: {{file: {FILE}, urls: ["{server.url("/slow")}"], size: 300000, sha256: "{SHA256}"}}')
    command = [sys.executable, "-m", "getam.cli", "fetch", "name", "--folder", folder, "--registry", registry]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    unfinished = folder / f".{FILE}.part"
    deadline = time.monotonic() + 30
    while not (unfinished.exists() and unfinished.stat().st_size > 100_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert visible(folder) == []
    arrived = unfinished.stat().st_size
    assert arrived > 0
    get(archive(server, "/good"), folder, lock)
    assert server.ranges["/good"] == [f"bytes={arrived}-"]


def test_wrong_partial_is_dropped(server, folder, lock):
    """Bytes that an earlier process has left may be of another version: once more from nothing."""
    folder.mkdir()
    (folder / f".{FILE}.part").write_bytes(OTHER[:100_000])
    get(archive(server, "/good"), folder, lock)
    assert server.ranges["/good"] == ["bytes=100000-", None]


@pytest.mark.parametrize("content", [CONTENT, OTHER, CONTENT + b"more"])
def test_whole_partial(server, folder, lock, content):
    """The rename was missed, or it is as long as it should be and wrong, or longer."""
    folder.mkdir()
    (folder / f".{FILE}.part").write_bytes(content)
    get(archive(server, "/good", size=None), folder, lock)


def test_put_there_by_hand(server, folder, lock):
    folder.mkdir()
    (folder / FILE).write_bytes(CONTENT)
    get(archive(server, "/none"), folder, lock)
    (folder / FILE).write_bytes(OTHER)
    with pytest.raises(ValueError, match=rf"archive\.tar is not name: its sha256 is .* expected {SHA256}; move it"):
        fetch(archive(server, "/good"), folder, lock)
    assert (folder / FILE).read_bytes() == OTHER
    (folder / FILE).write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match="it has 299999 bytes, expected 300000"):
        fetch(archive(server, "/good"), folder, lock)


def test_prefix_of_a_checksum(server, folder, lock):
    get(archive(server, "/good", size=None, sha256=SHA256[:8]), folder, lock)
    (folder / FILE).unlink()
    wrong = "0" * 8
    wanted = archive(server, "/good", size=None, sha256=wrong)
    assert f"expected {wrong}..." in failure(wanted, folder, Lock(folder / "lock"))


def test_without_a_checksum_the_first_fetch_decides(server, folder, lock):
    unchecked = archive(server, "/file", size=None, sha256=None)
    server.files["/file"] = CONTENT
    get(unchecked, folder, lock)
    assert lock.path.read_text().startswith("# Written by `getam fetch`")
    assert SHA256 in lock.path.read_text()
    assert "size: 300000" in lock.path.read_text()
    (folder / FILE).unlink()
    server.files["/file"] = OTHER
    message = failure(unchecked, folder, Lock(lock.path))
    assert f"the first fetch had {SHA256}" in message
    assert f"according to {lock.path}; to accept the new version, remove the entry name there" in message
    (folder / FILE).write_bytes(OTHER)
    with pytest.raises(ValueError, match="the first fetch had"):
        fetch(unchecked, folder, Lock(lock.path))


def test_without_a_checksum_no_foreign_bytes_are_taken_up(server, folder, lock):
    folder.mkdir()
    (folder / f".{FILE}.part").write_bytes(OTHER[:1000])
    get(archive(server, "/good", size=None, sha256=None), folder, lock)
    assert server.ranges["/good"] == [None]


def test_without_a_checksum_a_changed_file_is_not_mixed(server, folder, lock):
    """The file changes between two attempts: by its ETag the server sends all of the new one."""

    def change(handler):
        if handler.attempt == 1:
            handler.send_file(OTHER, etag='"old"', stop_after=PART)
        else:
            handler.send_file(CONTENT, etag='"new"')

    server.behaviours["/changes"] = change
    get(archive(server, "/changes", size=None, sha256=None), folder, lock)
    assert server.ranges["/changes"] == [None, f"bytes={PART}-"]


def test_without_checksum_or_version_nothing_is_resumed(server, folder, lock):
    def drop(handler):
        handler.send_file(OTHER if handler.attempt == 1 else CONTENT, stop_after=PART if handler.attempt == 1 else None)

    server.behaviours["/drops"] = drop
    get(archive(server, "/drops", size=None, sha256=None), folder, lock)
    assert server.ranges["/drops"] == [None, None]


def test_two_at_once(server, folder, lock):
    """One transfers, the other waits and finds the file."""
    threads = [threading.Thread(target=get, args=(archive(server, "/good"), folder, lock)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.ranges["/good"] == [None]


def test_without_a_checksum_a_missing_end_would_go_unnoticed(server, folder, lock):
    server.behaviours["/open"] = lambda handler: handler.send_file(CONTENT, stop_after=PART, announce=False)
    server.files["/empty"] = b""
    message = failure(archive(server, "/open", "/empty", size=None, sha256=None), folder, lock)
    assert "does not say how large the file is" in message
    assert "sends an empty file" in message
    assert not lock.path.exists()


def test_a_wrong_rest_is_dropped_with_its_beginning(server, folder, lock):
    def wrong_rest(handler):
        handler.send_file(OTHER if handler.attempt == 2 else CONTENT, stop_after=PART if handler.attempt == 1 else None)

    server.behaviours["/mixed"] = wrong_rest
    get(archive(server, "/mixed"), folder, lock)
    assert server.ranges["/mixed"] == [None, f"bytes={PART}-", None]
    server.behaviours["/never"] = lambda handler: handler.send_file(OTHER, stop_after=200_000)
    (folder / FILE).unlink()
    assert "its sha256 is" in failure(archive(server, "/never"), folder, lock)


def test_compressed_files_stay_compressed(server, folder, lock):
    """As servers send a .tgz that take it for a .tar in an encoding."""
    compressed = gzip.compress(CONTENT)

    def encoded(handler):
        handler.send_response(200)
        handler.send_header("Content-Encoding", "x-gzip")
        handler.send_header("Content-Length", str(len(compressed)))
        handler.end_headers()
        handler.wfile.write(compressed)

    server.behaviours["/encoded"] = encoded
    wanted = archive(server, "/encoded", size=len(compressed), sha256=hashlib.sha256(compressed).hexdigest())
    path, _ = fetch(wanted, folder, lock, **FAST)
    assert path.read_bytes() == compressed


def test_fetches_at_once_share_a_lock(server, tmp_path):
    path, together = tmp_path / "archives.lock.yaml", threading.Barrier(8)

    def fetch_one(number: int) -> None:
        wanted, lock = Archive(f"name{number}", f"{number}.tar", (server.url("/good"),)), Lock(path)
        together.wait()
        fetch(wanted, tmp_path, lock, **FAST)

    threads = [threading.Thread(target=fetch_one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text().count(SHA256) == 8


def test_google_drive(folder, lock, monkeypatch):
    asked = {}

    def download(id: str, output: str, progress, **options):
        asked.update(options, id=id)
        progress(len(CONTENT), len(CONTENT))
        Path(output).write_bytes(CONTENT)

    monkeypatch.setattr(gdown, "download", download)
    drive = Archive("name", FILE, ("gdrive:1aB-c",))
    get(drive, folder, lock)
    assert asked["id"] == "1aB-c"
    assert SHA256 in lock.path.read_text()
    (folder / FILE).unlink()

    def refuse(**options):
        raise gdown.exceptions.FileURLRetrievalError("Too many users have\n viewed this file")

    monkeypatch.setattr(gdown, "download", refuse)
    message = failure(drive, folder, Lock(lock.path))
    assert "gdrive:1aB-c: Too many users have viewed this file" in message
    assert f"by hand from https://drive.google.com/file/d/1aB-c/view, put it at {folder / FILE}" in message
    assert f"(293.0 KiB, sha256 {SHA256})" in message


def test_google_drive_is_asked_for_by_gdown(folder, lock, monkeypatch):
    """gdown itself, its requests answered by a server of ours: what it hands on is verified."""
    with serving() as server:
        for path, content in (("/uc?id=good", CONTENT), ("/uc?id=other", OTHER)):
            server.behaviours[path] = partial(Handler.send_file, content=content, attachment="weights.pth")
        send = requests.Session.send

        def to_loopback(session, request, **options):
            request.url = server.url(request.path_url)
            return send(session, request, **options)

        monkeypatch.setattr(requests.Session, "send", to_loopback)
        get(Archive("name", FILE, ("gdrive:other", "gdrive:good"), sha256=SHA256), folder, lock, attempts=1)


@pytest.fixture
def drive(server, monkeypatch):
    """OneDrive on loopback: a token, the item behind a share, addresses that work once, and the dead interface."""
    monkeypatch.setattr(onedrive, "_TOKEN", server.url("/token"))
    monkeypatch.setattr(onedrive, "_SHARES", server.url("/shares"))
    monkeypatch.setattr(onedrive, "_DRIVES", server.url("/drives"))
    drive = SimpleNamespace(link=server.url("/s!Abc?e=1"), refused=set(), location=None, asked=[], stop_after=None)
    encoded = base64.urlsafe_b64encode(drive.link.encode()).decode().rstrip("=")
    drive.share = f"/shares/u!{encoded}/driveItem"

    def answer(handler, content):
        drive.asked.append(handler.path)
        if handler.path in drive.refused:
            handler.send_error(401)
        else:
            handler.send_file(json.dumps(content).encode(), kind="application/json")

    def token(handler):
        assert json.loads(handler.body) == {"appId": "5cbed6ac-a083-4e14-b191-b4ba07653de2"}
        answer(handler, {"token": "secret"})

    def item(handler):
        if "Authorization" in handler.headers:
            assert handler.headers["Authorization"] == "Badger secret"
        assert handler.headers["Prefer"] == "autoredeem"
        number = len(server.behaviours)
        address = f"/download/{number}"
        server.behaviours[address] = download
        answer(handler, {"name": FILE, "size": len(CONTENT), "@content.downloadUrl": server.url(address)})

    def download(handler):
        assert "Authorization" not in handler.headers
        drive.asked.append(handler.path)
        if handler.attempt > 1:
            handler.send_error(403)
            return
        stop, drive.stop_after = drive.stop_after, None
        handler.send_file(CONTENT, stop_after=stop)

    def short(handler):
        handler.send_response(302)
        handler.send_header("Location", drive.location or "https://login.live.com/")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.behaviours |= {"/token": token, drive.share: item, "/s!Abc?e=1": short}
    server.behaviours |= {"/shares/u!again/driveItem": item, "/drives/7/items/7!8?authkey=!k": item}
    return drive


def test_onedrive(drive, folder, lock):
    get(Archive("name", FILE, (f"onedrive:{drive.link}",)), folder, lock)
    assert [path.split("/")[1] for path in drive.asked] == ["token", "shares", "download"]


def test_onedrive_addresses_expire(drive, folder, lock):
    drive.stop_after = 100_000
    known = Archive("name", FILE, (f"onedrive:{drive.link}",), sha256=hashlib.sha256(CONTENT).hexdigest())
    get(known, folder, lock)
    downloads = [path for path in drive.asked if path.startswith("/download")]
    assert len(downloads) == len(set(downloads)) == 2


@pytest.mark.parametrize(
    "location",
    ["https://onedrive.live.com/?redeem=again", "https://onedrive.live.com/redir?resid=7!8&authkey=!k&cid=7"],
)
def test_onedrive_by_the_short_link(drive, folder, lock, location):
    drive.refused, drive.location = {"/token", drive.share}, location
    get(Archive("name", FILE, (f"onedrive:{drive.link}",)), folder, lock)


def test_onedrive_that_refuses(drive, folder, lock):
    drive.refused = {"/token", drive.share}
    with pytest.raises(DownloadError) as caught:
        get(Archive("name", FILE, (f"onedrive:{drive.link}",)), folder, lock)
    message = str(caught.value)
    assert "OneDrive refuses programs (token: HTTP 401; /shares/u!" in message
    assert f"download it by hand from {drive.link}, put it at {folder / FILE}" in message


def test_full_disk(server, small_disk, tmp_path):
    """A megabyte of room for two: said before anything is transferred, or when it is full, and the part stays."""
    content = CONTENT * 7
    server.files["/large"] = content
    server.behaviours["/unannounced"] = lambda handler: handler.send_file(content, announce=False)
    registry = tmp_path / "archives.yaml"
    digest = hashlib.sha256(content).hexdigest()
    expected = {"/large": "needs 2.0 MiB on the disk", "/unannounced": "the disk is full: could not write"}
    for path, message in expected.items():
        registry.write_text(f'name: {{file: {FILE}, urls: ["{server.url(path)}"], sha256: "{digest}"}}')
        command = f"{sys.executable} -m getam.cli fetch name --registry {registry} --folder $0; ls $0"
        done = subprocess.run(small_disk("sh", "-c", command), capture_output=True, text=True, check=False)
        assert message in done.stderr
        assert FILE in done.stderr
        assert FILE not in done.stdout


def test_full_disk_is_the_same_error_as_elsewhere(folder, lock, server, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: os.terminal_size((0, 0)) and type("", (), {"free": 10}))
    with pytest.raises(OSError, match="needs 293.0 KiB on the disk, 10 bytes are free") as caught:
        fetch(archive(server, "/good"), folder, lock)
    assert caught.value.errno == errno.ENOSPC


def test_registry_of_the_project():
    archives = read_registry(Path(__file__).parents[3] / "config" / "archives.yaml")
    assert archives["voc2012_trainval"].size == 1_999_639_040
    assert archives["sbd"].size == 1_419_539_633
    assert not any("pjreddie" in url or "host.robots" in url for entry in archives.values() for url in entry.urls)
    assert archives["sbd"].md5 == "82b4d87ceb2ed10f6038a1cba92111cb"
    for name, entry in archives.items():
        if name.startswith("imagenet_"):
            assert entry.sha256 in entry.file
    assert sum(url.startswith("gdrive:") for entry in archives.values() for url in entry.urls) == 7


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{file: a.tar}", "name: urls: expected a list of addresses"),
        ("{file: a.tar, urls: []}", "name: urls: expected a list of addresses"),
        ('{file: a.tar, urls: ["ftp://x"]}', "name: urls: expected a list of addresses that begin with http://"),
        ('{file: ../a.tar, urls: ["http://x"]}', "name: file: expected a file name"),
        ('{file: a.tar, urls: ["http://x"], sha: "ab"}', "name: unknown key 'sha'; did you mean sha256?"),
        ('{file: a.tar, urls: ["http://x"], sha256: "abc"}', "name: sha256: expected 8 to 64 hexadecimal digits"),
        ('{file: a.tar, urls: ["http://x"], md5: 12345678}', "name: md5: expected 32 hexadecimal digits, in quotes"),
        ('{file: a.tar, urls: ["http://x"], size: 0}', "name: size: expected a number of bytes, got 0"),
        ("[]", "name: expected keys such as file and urls"),
        ('{file: a.tar, urls: ["http://x"]}\nsecond: {file: a.tar, urls: ["http://y"]}', "the same file name a.tar"),
        ("{", "is not YAML"),
    ],
)
def test_bad_registries(tmp_path, entry, message):
    path = tmp_path / "archives.yaml"
    path.write_text(f"name: {entry}\n")
    with pytest.raises(ValueError, match=message) as caught:
        read_registry(path)
    assert str(path) in str(caught.value)


def test_bad_lock(tmp_path):
    (tmp_path / "lock.yaml").write_text("name: {size: 3}\n")
    with pytest.raises(ValueError, match=r"lock\.yaml: expected size and sha256"):
        Lock(tmp_path / "lock.yaml")


def test_command(server, folder, tmp_path, capsys):
    registry = tmp_path / "archives.yaml"
    registry.write_text(
        f'first: {{file: {FILE}, urls: ["{server.url("/good")}"]}}\nsecond: {{file: b, urls: ["http://x"]}}'
    )
    options = ["--registry", str(registry), "--folder", str(folder)]
    assert main(["fetch", "first", *options]) == 0
    assert capsys.readouterr().out == f"{folder / FILE}: 293.0 KiB, sha256 {SHA256}\n"
    assert SHA256 in (tmp_path / "archives.lock.yaml").read_text()
    assert main(["fetch", *options]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["there", "not"]
    assert main(["fetch", "frist", *options]) == 1
    assert "no archive 'frist'; did you mean first?" in capsys.readouterr().err
    assert main(["fetch", "--registry", str(tmp_path / "none.yaml")]) == 1
    assert "no registry of archives" in capsys.readouterr().err


def test_every_mirror_is_asked_once(server, tmp_path, capsys):
    server.behaviours["/page"] = lambda handler: handler.send_file(b"<html>", kind="text/html")
    registry = tmp_path / "archives.yaml"
    lines = {
        "good": ["/missing", "/good"],
        "dead": ["/missing", "/page", "/other"],
    }
    server.files["/other"] = OTHER[:-1]
    registry.write_text(
        "\n".join(
            f"{name}: {{file: {name}.tar, size: {len(CONTENT)}, urls: {[server.url(path) for path in paths]}}}"
            for name, paths in lines.items()
        )
    )
    folder = tmp_path / "archives"
    assert main(["fetch", "--check", "--registry", str(registry), "--folder", str(folder)]) == 1
    printed = capsys.readouterr()
    assert "no mirror works for dead" in printed.err
    rows = [line.split(None, 2) for line in printed.out.splitlines()]
    assert [row[:2] for row in rows] == [["good", "fails"], ["good", "works"], *[["dead", "fails"]] * 3]
    answers = [
        "HTTP 404 Not Found",
        "293.0 KiB",
        "HTTP 404 Not Found",
        "a web page",
        "a file of 299999 bytes, expected 300000",
    ]
    assert [row[2].split(": ", 1)[1] for row in rows] == answers
    assert all(len(ranges) == (2 if path == "/missing" else 1) for path, ranges in server.ranges.items())
    assert not folder.exists()
    assert main(["fetch", "--check", "good", "--registry", str(registry)]) == 0


def test_without_a_network_attempts_are_few(folder, lock, monkeypatch):
    asked = []

    def unreachable(self, url, **options):
        asked.append(url)
        raise requests.ConnectionError("Failed to establish a new connection: [Errno 101] Network is unreachable")

    monkeypatch.setattr(requests.Session, "get", unreachable)
    with pytest.raises(DownloadError, match="Network is unreachable"):
        fetch(Archive("name", FILE, ("http://a/x", "http://b/x")), folder, lock, wait=0.01)
    assert asked == ["http://a/x", "http://a/x", "http://b/x", "http://b/x"]
