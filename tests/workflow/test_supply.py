"""What is installed and run from elsewhere is pinned: packages, the base image, GitHub's actions."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from tests.helpers.small_workflow import command

ROOT = Path(__file__).parents[2]
# Names that torch's build with CUDA brings and one without does not.
CUDA = re.compile(r"torch|triton|cuda-.+|nvidia-.+")


def packages(lock):
    """Name -> (version, hashes) of what a lock names."""
    text = (ROOT / "envs" / lock).read_text()
    blocks = re.findall(r"^([a-z0-9][\w.-]*)==(\S+).*?\n((?:[ ]{4}.*\n)*)", text, re.MULTILINE)
    return {name: (version, re.findall(r"--hash=sha256:([0-9a-f]{64})", rest)) for name, version, rest in blocks}


def workflow_files():
    return sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("lock", ["requirements.lock", "cpu.lock", "pydensecrf.lock"])
def test_every_package_has_hashes(lock):
    found = packages(lock)
    assert found
    assert [name for name, (_, hashes) in found.items() if not hashes] == []


def test_both_locks_agree():
    everything, without_cuda = packages("requirements.lock"), packages("cpu.lock")
    assert {name: kept for name, kept in everything.items() if not CUDA.fullmatch(name)} == without_cuda


def test_the_image_has_the_cuda_that_torch_is_built_for():
    base = re.search(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", base)
    version, _ = packages("requirements.lock")["cuda-toolkit"]
    assert base.startswith("nvidia/cuda:" + ".".join(version.split(".")[:2]) + ".")


def test_the_image_gets_what_its_build_copies():
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    for path in " ".join(copied).split():
        assert (ROOT / path).exists()
        assert f"!{path}" in ignored


def image_environment():
    """The variables that the image sets, without those that name its own folders."""
    (block,) = re.findall(r"^ENV ((?:.+\\\n)*.+)$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE)[-1:]
    variables = dict(part.split("=", 1) for part in block.replace("\\\n", " ").split())
    return {name: value for name, value in variables.items() if "$" not in value}


@pytest.mark.parametrize("variables", [image_environment(), {"HOME": "/tmp"}], ids=["image", "bare"])
def test_any_user_of_a_container(tmp_path, variables):
    # As `docker run --user 4242`: a bare environment, and a uid without an entry in /etc/passwd.
    as_4242 = ["unshare", "--user", "--map-user=4242", "--map-group=4242"]
    if not shutil.which("unshare") or subprocess.run([*as_4242, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody take another uid (unshare --user)")
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])
    environment = {**variables, "PATH": path, "PYTHONPATH": str(ROOT)}
    nameless = [*as_4242, sys.executable, "-c", "import os, pwd; pwd.getpwuid(os.getuid())"]
    assert b"uid not found: 4242" in subprocess.run(nameless, env={}, capture_output=True, check=False).stderr
    dry_run = command("--configfile", ROOT / "config" / "demo.yaml", "--cores", 1, "--dry-run")
    done = subprocess.run(
        [*as_4242, *dry_run], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "This was a dry-run" in done.stdout + done.stderr


@pytest.mark.parametrize("path", workflow_files(), ids=lambda path: path.name)
def test_actions_are_pinned_by_their_commits(path):
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    used = [step["uses"] for job in jobs for step in job["steps"] if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)] == []


def test_every_workflow_has_the_same_version_of_an_action():
    used = {}
    for path in workflow_files():
        for action, pin in re.findall(r"uses: (\S+)@(\S+ # v\S+)", path.read_text()):
            used.setdefault(action, set()).add(pin)
    assert len(used) >= 4
    assert {action: pins for action, pins in used.items() if len(pins) > 1} == {}


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    changes = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert citation == changes == project == version("getam")


def test_the_check_of_the_image_passes_here():
    """`make check IMAGE=` runs it with the packages of .venv."""
    done = subprocess.run([sys.executable, "docker/check.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("maps and the lattice are there\n")
