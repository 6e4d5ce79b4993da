"""The generated pages are current, and the examples of the public names run."""

import doctest
import inspect

import numpy as np
import pytest
import torch

import getam
import getam_lattice
from docs.generate.docstrings import meanings, parse
from docs.generate.pages import PAGES, path_of
from getam.config.experiment_file import load_experiment

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# A class of errors has nothing to run; a checkpoint of the authors cannot be shipped.
WITHOUT = {"CheckpointError"}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name):
    assert path_of(name).read_text(encoding="utf-8") == PAGES[name](), "run: make reference"


def public_names():
    yield from ((name, getattr(getam, name)) for name in getam.__all__ if name not in WITHOUT)
    yield from ((f"getam_lattice.{name}", getattr(getam_lattice, name)) for name in ("dense_crf", "Kernel"))


@pytest.fixture
def surroundings(small_shapes, small_experiment, tmp_path):
    """Names that the examples use beside the public ones."""
    small_experiment["training"]["epochs"] = 2
    return {
        **{name: getattr(getam, name) for name in getam.__all__},
        "getam_lattice": getam_lattice,
        "np": np,
        "torch": torch,
        "folder": tmp_path,
        "shapes": small_shapes / "dataset",
        "experiment": load_experiment(small_experiment),
    }


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("name", "value"), list(public_names()), ids=[name for name, _ in public_names()])
def test_example_runs(name, value, surroundings):
    torch.manual_seed(0)
    example = parse(inspect.getdoc(value)).example
    assert example, f"{name} has no example"
    test = doctest.DocTestParser().get_doctest(example, surroundings, name, None, 0)
    output = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=output.append)
    assert not output, "".join(output)


def test_docstring_is_taken_apart():
    parts = parse(
        "Text.\n\nMore:\n\n    indented\n\nArgs:\n    a, b: first\n        line.\n    c: second: colon.\n\n"
        "Returns:\n    (B, C), a map.\n\nRaises:\n    ValueError: bad.\n\n>>> f(1)\n2"
    )
    assert parts.text == "Text.\n\nMore:\n\n    indented"
    assert parts.sections["Args"] == {"a, b": "first\n    line.", "c": "second: colon."}
    assert parts.sections["Returns"] == {"": "(B, C), a map."}
    assert parts.sections["Raises"] == {"ValueError": "bad."}
    assert parts.example == ">>> f(1)\n2\n"


def test_meanings_of_settings():
    text = "Things.\n\na: one; it is times `d`. b, c: two\n    lines."
    assert meanings(text, ("a", "b", "c", "d")) == {
        "a": "one; it is times `d`",
        "b": "two lines",
        "c": "two lines",
        "d": "see `a`",
    }
