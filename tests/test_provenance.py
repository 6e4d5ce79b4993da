import json
import subprocess
import sys

import pytest

from getam import provenance
from getam.provenance import built_on, step_digest, surroundings


def test_steps_are_built_on_what_they_import():
    training, masks = built_on("getam.training"), built_on("getam.postprocessing")
    assert {f"getam.{name}" for name in ("phases", "activation", "losses", "network", "datasets.augment")} <= training
    assert "getam._native" in training & masks
    # The decoder does not change what the dense CRF does.
    assert "getam.network" not in masks
    assert not {"getam.progress", "getam.files"} & (training | masks)
    code = "import getam.training, json, sys; print(json.dumps([m for m in sys.modules if m.startswith('getam')]))"
    imported = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert training <= set(imported)


def test_layout_comments_and_docstrings_do_not_count():
    first = 'def f(x):\n    """One."""\n    return x + 1  # why\n'
    second = 'def f(\n    x,\n):\n    """Another."""\n\n    return (x + 1)\n'
    assert provenance._bare(first) == provenance._bare(second)
    assert provenance._bare(first) != provenance._bare(first.replace("+ 1", "+ 2"))
    assert "pass" in provenance._bare('class A:\n    """Only words."""\n')


@pytest.mark.parametrize(
    ("module", "counts"), [("losses", True), ("activation", True), ("submission", False), ("cli", False)]
)
def test_changed_code_is_another_step(monkeypatch, module, counts):
    source = provenance._source
    before = step_digest("getam.training")
    step_digest.cache_clear()
    monkeypatch.setattr(
        provenance, "_source", lambda name: source(name) + ("\nX = 1\n" if name == f"getam.{module}" else "")
    )
    assert (step_digest("getam.training") != before) == counts
    step_digest.cache_clear()


def test_commit_from_the_environment_where_there_is_no_checkout(monkeypatch):
    def no_git(*arguments, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    monkeypatch.setenv("GETAM_COMMIT", "abc")
    found = surroundings()
    assert (found["commit"], found["changed_since_commit"]) == ("abc", None)
