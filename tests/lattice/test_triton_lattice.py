"""The lattice as Triton kernels: in Triton's interpreter on the CPU, and compiled for a GPU that is not there."""

import json
import logging
import re
from importlib.util import find_spec

import pytest
import torch

from getam.lattice import forms
from getam.lattice.torch_lattice import TorchLattice
from tests.helpers.processes import run_python

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None,
    reason="triton is not installed: it comes with torch for CUDA, or by envs/install.sh triton",
)


@needs_triton
def test_in_the_interpreter():
    cases = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/lattice/triton_cases.py")
    output = run_python(*cases, TRITON_INTERPRET="1")
    assert " passed" in output
    assert "skipped" not in output


@needs_triton
@pytest.mark.slow
def test_compiled_for_a_gpu(tmp_path):
    """Without fused additions, which round otherwise, and with exact keys."""
    kernels = json.loads(
        run_python("-m", "tests.helpers.compiled_kernels", TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0")
    )
    assert set(kernels) == {
        *(f"{name} {d}" for name in ("measure", "place", "splat", "slice_values") for d in (2, 5)),
        "link",
        "blur",
    }
    for name, (ptx, machine_code) in kernels.items():
        assert ".target sm_90" in ptx
        assert not re.search(r"\b[FD]FMA\b", machine_code), name
        assert re.search(r"\bEXIT\b", machine_code), name
        assert not re.search(r"\b(LDL|STL)\b", machine_code), f"{name} spills registers"
    for d in (2, 5):
        assert kernels[f"place {d}"][0].count("cas.b64") == d + 1
        assert re.search(r"atom[.\w]*\.add\.f32", kernels[f"splat {d}"][0])


@pytest.fixture
def gpu_form(monkeypatch, caplog):
    """The form for a GPU, with the lines of the log; this machine need not have one."""
    monkeypatch.delenv("GETAM_LATTICE", raising=False)
    caplog.set_level(logging.INFO)

    def form():
        forms._on_gpu.cache_clear()
        found = [forms.lattice_form(torch.device("cuda", 0)) for _ in range(2)]
        assert found[0] is found[1]
        return found[0], [record.message for record in caplog.records]

    yield form
    forms._on_gpu.cache_clear()


def test_the_cpu_asks_for_nothing(caplog):
    caplog.set_level(logging.INFO)
    assert forms.lattice_form(torch.device("cpu")) is TorchLattice
    assert caplog.records == []


def test_torch_without_triton(gpu_form, monkeypatch):
    monkeypatch.setattr(forms, "find_spec", lambda name: None)
    form, (line,) = gpu_form()
    assert form is TorchLattice
    assert "not as Triton kernels: the package triton is not installed" in line


def test_torch_without_a_compiler(gpu_form, monkeypatch, tmp_path):
    monkeypatch.setattr(forms, "find_spec", lambda name: object())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    form, (line,) = gpu_form()
    assert form is TorchLattice
    assert "triton needs a C compiler" in line


def test_torch_on_request(gpu_form, monkeypatch):
    monkeypatch.setenv("GETAM_LATTICE", "torch")
    form, (line,) = gpu_form()
    assert form is TorchLattice
    assert "GETAM_LATTICE=torch asks for it" in line


def test_torch_where_kernels_fail_or_differ(gpu_form, monkeypatch):
    monkeypatch.setattr(forms, "_missing", lambda: None)
    monkeypatch.setattr(forms, "_refused", lambda device: f"no driver for {device}")
    form, (line,) = gpu_form()
    assert form is TorchLattice
    assert line.endswith("no driver for cuda:0")


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_torch_without_a_driver(gpu_form):
    form, (line,) = gpu_form()
    assert form is TorchLattice
    assert "active drivers" in line
