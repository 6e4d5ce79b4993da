"""Benchmarks are programs that no other test may run: they follow the package they measure, at least in its names."""

import importlib
import pkgutil

import pytest

import benchmarks

# It needs a process that has not imported torch; tests/test_pretended_cuda.py runs it.
ELSEWHERE = {"benchmarks.speed.launches"}
MODULES = {module.name for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.") if not module.ispkg}


@pytest.mark.parametrize("name", sorted(MODULES - ELSEWHERE))
def test_imports(name):
    importlib.import_module(name)
