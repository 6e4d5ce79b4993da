"""The path of a GPU without one: the tests of CUDA on a pretended GPU, and limits for launches and waits of a step."""

import csv
import re

import pytest

from tests.helpers.processes import ROOT, run_python


@pytest.mark.slow
def test_the_tests_of_cuda():
    """With the rounding of its divisions, and additions in any order."""
    plugin = ("-p", "tests.helpers.pretended_cuda.plugin", "-p", "no:cacheprovider")
    tests = ("tests/test_cuda.py", "tests/test_cuda_runs.py")
    # There are no Triton kernels on it.
    without = ("--deselect", "tests/test_cuda.py::test_forms_of_the_lattice")
    output = run_python("-m", "pytest", "-q", *plugin, *without, *tests, PRETENDED_CUDA_ROUNDING="1")
    assert " passed" in output
    skipped = re.findall(r"SKIPPED \[1\] .*?: (.*)", output)
    assert skipped == ["needs two GPUs"]


@pytest.mark.slow
def test_launches_and_waits_do_not_rise(tmp_path):
    """Neither depends on the size of the images."""
    run_python("-m", "benchmarks.speed.launches", "--side", "64", "--output", str(tmp_path / "found.csv"))
    found, recorded = (
        {
            (row["backbone"], row["part"]): (int(row["launches"]), int(row["waits"]))
            for row in csv.DictReader(path.read_text().splitlines())
        }
        for path in (tmp_path / "found.csv", ROOT / "benchmarks" / "results" / "launches.csv")
    )
    assert found.keys() == recorded.keys()
    launches, waits = recorded["vitb_hybrid", "total"]
    assert launches < 1800
    assert waits <= 2
    for part, (launches, waits) in found.items():
        assert launches <= recorded[part][0], part
        assert waits <= recorded[part][1], part
