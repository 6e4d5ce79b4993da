"""Benchmarks are programs that no other test may run: they follow the package they measure, at least in their names."""

import importlib
import pkgutil

import pytest

import benchmarks


@pytest.mark.parametrize(
    "name", [module.name for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.") if not module.ispkg]
)
def test_imports(name):
    importlib.import_module(name)
