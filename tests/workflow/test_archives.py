"""Files that people put into resources/archives survive whatever Snakemake does to the jobs that fetch them."""

import hashlib
import signal
import subprocess
import time
from functools import partial

import pytest
import yaml

from tests.helpers.file_server import serving
from tests.helpers.small_workflow import ROOT, command, environment

CONTENT = b"an archive" * 1000
RECEIPT = "resources/archives/a.tar.json"


@pytest.fixture
def server():
    with serving() as running:
        # Nothing comes until the test says so.
        running.behaviours["/hanging"] = lambda handler: time.sleep(60)
        yield running


@pytest.fixture
def workflow(tmp_path, server):
    """A copy of the workflow with a registry of one archive, and a folder to work in."""
    source = tmp_path / "source"
    parts = ("Snakefile", "workflow", "config", "profiles")
    subprocess.run(["cp", "-r", *(str(ROOT / part) for part in parts), str(source.mkdir() or source)], check=True)
    registry = yaml.safe_load((source / "config" / "archives.yaml").read_text())
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    registry["a"] = {"file": "a.tar", "urls": [server.url("/hanging")], "size": len(CONTENT), "sha256": sha256}
    (source / "config" / "archives.yaml").write_text(yaml.safe_dump(registry))
    (tmp_path / "work" / "resources" / "archives").mkdir(parents=True)
    return source, tmp_path / "work"


def start(workflow):
    source, folder = workflow
    return subprocess.Popen(
        command("--cores", 1, "--retries", 0, RECEIPT, source=source),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # A shell's background job ignores Ctrl-C, and so would its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        text=True,
    )


def wait_for_request(server):
    for _ in range(600):
        if "/hanging" in server.ranges:
            return
        time.sleep(0.1)
    pytest.fail("nothing was fetched")


def assert_fetched(workflow):
    run = start(workflow)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert (workflow[1] / RECEIPT).is_file()


def test_a_file_that_is_not_the_archive_survives_the_failed_attempt(workflow):
    path = workflow[1] / "resources" / "archives" / "a.tar"
    path.write_bytes(b"downloaded by hand, but cut short")
    run = start(workflow)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "a.tar is not a: it has 33 bytes, expected 10000; move it away to fetch it again" in output
    assert path.read_bytes() == b"downloaded by hand, but cut short"
    path.write_bytes(CONTENT)
    assert_fetched(workflow)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_a_file_that_comes_while_a_fetch_runs_survives_its_end(workflow, server, number):
    run = start(workflow)
    wait_for_request(server)
    path = workflow[1] / "resources" / "archives" / "a.tar"
    path.write_bytes(CONTENT)
    signalled = time.monotonic()
    subprocess.run(["kill", f"-{number.name.removeprefix('SIG')}", "--", f"-{run.pid}"], check=True)
    run.communicate(timeout=60)
    assert run.returncode != 0
    assert time.monotonic() - signalled < 30
    assert path.read_bytes() == CONTENT
    assert_fetched(workflow)


def test_a_second_snakemake_of_an_older_plan(workflow, server):
    """Both have planned to fetch; the file comes, one is killed, and the other one begins."""
    first = start(workflow)
    wait_for_request(server)
    second = start(workflow)
    path = workflow[1] / "resources" / "archives" / "a.tar"
    path.write_bytes(CONTENT)
    subprocess.run(["kill", "-KILL", "--", f"-{first.pid}"], check=True)
    first.communicate(timeout=60)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 0, output
    assert path.read_bytes() == CONTENT
