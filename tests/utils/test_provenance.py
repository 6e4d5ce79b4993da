import json
import subprocess
import sys

import pytest

from getam.utils import provenance
from getam.utils.provenance import environment, modules_of_step, step_digest


def test_steps_are_built_on_what_they_import():
    training, masks = modules_of_step("getam.training.launch"), modules_of_step("getam.evaluation.masks")
    assert {
        f"getam.{name}"
        for name in ("training.phases", "method.activation", "method.losses", "models.network", "data.augmentation")
    } <= training
    assert "getam.lattice._native" in training & masks
    # The decoder does not change what the dense CRF does.
    assert "getam.models.network" not in masks
    assert not {"getam.utils.progress", "getam.utils.files"} & (training | masks)
    code = (
        "import getam.training.launch, json, sys; print(json.dumps([m for m in sys.modules if m.startswith('getam')]))"
    )
    imported = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert training <= set(imported)


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


@pytest.mark.parametrize(
    ("module", "counts"),
    [
        ("method.losses", True),
        ("method.activation", True),
        ("training.launch", True),
        ("evaluation.submission", False),
        ("cli.train", False),
        ("utils.files", False),
    ],
)
def test_changed_code_is_another_step(monkeypatch, module, counts):
    source = provenance._source
    before = step_digest("getam.training.launch")
    step_digest.cache_clear()
    monkeypatch.setattr(
        provenance, "_source", lambda name: source(name) + ("\nX = 1\n" if name == f"getam.{module}" else "")
    )
    assert (step_digest("getam.training.launch") != before) == counts
    step_digest.cache_clear()


def test_commit_from_the_environment_where_there_is_no_checkout(monkeypatch):
    def no_git(*arguments, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    monkeypatch.setenv("GETAM_COMMIT", "abc")
    found = environment()
    assert (found["commit"], found["changed_since_commit"]) == ("abc", None)
