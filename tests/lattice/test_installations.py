"""getam-lattice as a wheel of its own: for every Python, without a compiler, alone and beside getam."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from getam.utils.provenance import step_digest

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
# pypy3 has another ABI altogether.
INTERPRETERS = ("python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14", "pypy3")
pytestmark = pytest.mark.slow


def run(*command: str | Path, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": "", **variables}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


def copied(folder: Path, *names: str) -> Path:
    """Sources that are built: a build leaves folders beside them."""
    left_out = shutil.ignore_patterns("__pycache__", "*.so", "build", "*.egg-info")
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=left_out)
        else:
            shutil.copy(source, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    sources = copied(folder, "csrc") / "csrc"
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, sources)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def getam_alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("getam")
    (folder / "sources").mkdir()
    names = ("getam", "csrc", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
    sources = copied(folder / "sources", *names)
    run(*PIP, "install", "--no-deps", "--no-build-isolation", "--target", folder / "site", sources)
    return folder / "site"


def test_what_the_wheel_holds(wheel):
    name, version, python, abi, platform = wheel.stem.split("-")
    assert (name, python, abi) == ("getam_lattice", "py3", "none")
    assert platform != "any"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        requirements = [line for line in archive.read(metadata).decode().splitlines() if "Requires-Dist" in line]
    assert requirements == ["Requires-Dist: numpy>=1.21"]
    modules = {f"getam_lattice/{path.name}" for path in (ROOT / "csrc" / "getam_lattice").glob("*.py*")}
    assert modules | {"getam_lattice/libgetam.so", "getam_lattice/csrc/flags.toml"} <= names
    assert f"getam_lattice-{version}.dist-info/licenses/LICENSE" in names


def find(interpreter: str) -> str | None:
    """The interpreter on the path or among pyenv's, if it can make environments."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for candidate in (interpreter, *sorted(pyenv.glob(f"versions/*/bin/{interpreter}"))):
        path = shutil.which(candidate)
        if path and subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return path
    return None


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_fresh_environment_without_a_compiler(wheel, tmp_path, interpreter):
    path = find(interpreter)
    if path is None:
        pytest.skip(f"{interpreter} is not installed")
    run(path, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    nothing = {"PATH": str(tmp_path), "CC": "false", "CXX": "false"}
    run(python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", wheel, **nothing)
    assert "labels as expected" in run(python, "-m", "getam_lattice", **nothing)


DIGEST = "from getam.utils.provenance import *; print(step_digest('getam.evaluation.masks'), lattice_sources()[0])"
CRF = (
    "import numpy, getam, getam_lattice; image = numpy.zeros((9, 8, 3), 'u1'); p = numpy.full((2, 9, 8), 0.5, 'f4');"
    "print(getam_lattice.__file__); numpy.testing.assert_array_equal(getam.dense_crf(image, p), "
    "getam_lattice.dense_crf(image, p))"
)


@pytest.mark.parametrize("installed", ["getam", "getam and the wheel"])
def test_getam_with_and_without_the_wheel(wheel, getam_alone, tmp_path, installed):
    site = tmp_path / "site"
    shutil.copytree(getam_alone, site)
    if installed != "getam":
        run(*PIP, "install", "--no-deps", "--upgrade", "--target", site, wheel)
    found, source = run(sys.executable, "-c", DIGEST, PYTHONPATH=str(site)).split()
    assert Path(source).is_relative_to(site)
    assert found == step_digest("getam.evaluation.masks")
    assert Path(run(sys.executable, "-c", CRF, PYTHONPATH=str(site)).strip()).is_relative_to(site)
    assert "labels as expected" in run(sys.executable, "-m", "getam_lattice", PYTHONPATH=str(site))
