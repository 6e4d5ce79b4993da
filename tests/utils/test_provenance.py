import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from getam.utils import provenance
from getam.utils.provenance import environment, modules_of_step, step_digest

ROOT = Path(__file__).parents[2]


def test_steps_are_built_on_what_they_import():
    training, masks = modules_of_step("getam.training.launch"), modules_of_step("getam.evaluation.masks")
    assert {
        f"getam.{name}"
        for name in ("training.phases", "method.activation", "method.losses", "models.network", "data.augmentation")
    } <= training
    assert {"getam.lattice._native", "getam_lattice.library", "getam_lattice.kernels"} <= training & masks
    # The decoder does not change what the dense CRF does.
    assert "getam.models.network" not in masks
    assert not {"getam.utils.progress", "getam.utils.files"} & (training | masks)
    code = (
        "import getam.training.launch, json, sys; print(json.dumps([m for m in sys.modules if m.startswith('getam')]))"
    )
    imported = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    # These are imported when a GPU uses them first.
    for_gpus = {"getam.lattice.triton_kernels", "getam.lattice.triton_lattice"}
    assert for_gpus < training
    assert training - for_gpus <= set(imported)
    # An edit of the kernels for GPUs makes no mask of the CPU stale.
    on_gpu = modules_of_step("getam.evaluation.masks", "getam.evaluation.device_masks")
    assert masks < on_gpu
    assert {"getam.lattice.torch_lattice", *for_gpus} <= on_gpu - masks


def test_layout_comments_and_docstrings_do_not_count():
    first = 'def f(x):\n    """One."""\n    return x + 1  # why\n'
    second = 'def f(\n    x,\n):\n    """Another."""\n\n    return (x + 1)\n'
    assert provenance._outline(first) == provenance._outline(second)
    assert provenance._outline(first) != provenance._outline(first.replace("+ 1", "+ 2"))
    assert "Pass" in provenance._outline('class A:\n    """Only words."""\n')


OUTLINE = (
    "('Module', ('body', [('FunctionDef', ('name', \"'f'\"), ('args', ('arguments', ('args', [('arg', ('arg', \"'x'\"),"
    " ('annotation', ('Name', ('id', \"'int'\"), ('ctx', ('Load',)))))]), ('defaults', [('Constant', ('value', "
    "'3'))]))), ('body', [('Return', ('value', ('IfExp', ('test', ('Name', ('id', \"'x'\"), ('ctx', ('Load',)))), "
    "('body', ('JoinedStr', ('values', [('FormattedValue', ('value', ('Name', ('id', \"'x'\"), ('ctx', ('Load',)))), "
    "('conversion', '114'), ('format_spec', ('JoinedStr', ('values', [('Constant', ('value', \"'>4'\"))])))), "
    "('Constant', ('value', \"'{}'\"))]))), ('orelse', ('Constant',)))))]), ('returns', ('Name', ('id', \"'str'\"), "
    "('ctx', ('Load',)))))]))"
)


def test_code_is_the_same_to_every_version_of_python():
    # Python 3.13 writes f-strings with other quotes and leaves out empty fields; this is what 3.11 makes of it.
    source = 'def f(x: int = 3) -> str:\n    return f"{x!r:>4}{{}}" if x else None\n'
    assert provenance._outline(source) == OUTLINE


@pytest.fixture
def copied_package(tmp_path, monkeypatch):
    """A copy of the package and of csrc/, which the digests are computed from; its files may be edited."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "getam", checkout / "getam", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copytree(ROOT / "csrc", checkout / "csrc", ignore=shutil.ignore_patterns("__pycache__", "*.so", "build"))
    monkeypatch.setattr(provenance, "_FOLDER", checkout / "getam")
    monkeypatch.setattr(provenance, "_LATTICE_FOLDER", checkout / "csrc" / "getam_lattice")
    forget_sources()
    yield checkout
    forget_sources()


def forget_sources():
    step_digest.cache_clear()
    provenance._is_module.cache_clear()


def digest(step):
    forget_sources()
    return step_digest(*(f"getam.{module}" for module in step.split(" + ")))


STEPS = yaml.safe_load((ROOT / "tests" / "steps.yaml").read_text())
LATTICE = sorted(path.name for pattern in ("*.cpp", "*.h", "flags.toml") for path in (ROOT / "csrc").glob(pattern))


@pytest.mark.parametrize("step", STEPS)
def test_an_edit_counts_where_it_belongs(copied_package, step):
    before, covered = digest(step), STEPS[step].split()
    outside = "cli.command" if "cli.command" not in covered else "cli.options"
    for module, counts in ((covered[0], True), (covered[-1], True), (outside, False), ("utils.files", False)):
        folder = "csrc" if module.startswith("getam_lattice.") else "getam"
        path = copied_package.joinpath(folder, *module.split(".")).with_suffix(".py")
        source = path.read_text()
        path.write_text(source + "\nX = 1\n")
        assert (digest(step) != before) == counts, module
        path.write_text(source + "\n# only a comment\n")
        assert digest(step) == before, module


@pytest.mark.parametrize("name", LATTICE)
def test_every_source_of_the_lattice_counts(copied_package, name):
    steps = ("training.launch", "evaluation.masks", "evaluation.scores")
    before = [digest(step) for step in steps]
    path = copied_package / "csrc" / name
    path.write_text(path.read_text() + "\n")
    assert [digest(step) != old for step, old in zip(steps, before, strict=True)] == [True, True, False]


def test_what_a_build_leaves_does_not_count(copied_package):
    before = digest("evaluation.masks")
    for name in ("kernels.o", "libgetam.so", ".kernels.cpp.swp", "README.md", "pyproject.toml"):
        (copied_package / "csrc" / name).write_bytes(b"anything")
    assert digest("evaluation.masks") == before


def test_an_installed_package_has_the_digests_of_its_checkout(copied_package, monkeypatch):
    before = {step: digest(step) for step in ("training.launch", "evaluation.masks")}
    installed = copied_package / "getam_lattice"
    (copied_package / "csrc" / "getam_lattice").rename(installed)
    (copied_package / "csrc").rename(installed / "csrc")
    monkeypatch.setattr(provenance, "_LATTICE_FOLDER", installed)
    assert {step: digest(step) for step in before} == before
    shutil.rmtree(installed / "csrc")
    with pytest.raises(FileNotFoundError, match="sources of the lattice, csrc/, are neither in it nor around it"):
        digest("evaluation.masks")


@pytest.mark.slow
def test_a_built_package_has_the_digests_of_its_checkout(tmp_path):
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    sources = tmp_path / "sources"  # a build leaves folders beside what it builds
    for name in ("getam", "csrc"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "build"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, sources)
    subprocess.run([*install, "--target", str(tmp_path / "site"), str(sources)], check=True)
    code = "from getam.utils.provenance import *; print(step_digest('getam.evaluation.masks'), lattice_sources()[0])"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    installed, source = found.split()
    assert Path(source).is_relative_to(tmp_path / "site")
    assert installed == step_digest("getam.evaluation.masks")


@pytest.mark.parametrize("name", ["getam.training", "getam.data.saliency", "getam"])
def test_packages_have_no_digest(name):
    # An `__init__` computes nothing: its digest would never change.
    with pytest.raises(ValueError, match=f"step digest of '{name}': it is a package: name its modules"):
        step_digest(name)


def test_unknown_modules_have_no_digest():
    with pytest.raises(ValueError, match="'getam.nope': it is not a module of getam"):
        step_digest("getam.nope")


def test_commit_from_the_environment_where_there_is_no_checkout(monkeypatch):
    def no_git(*arguments, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    monkeypatch.setenv("GETAM_COMMIT", "abc")
    found = environment()
    assert (found["commit"], found["changed_since_commit"]) == ("abc", None)
