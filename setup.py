"""Builds the lattice of csrc/ into getam's own package; everything else about it is in pyproject.toml."""

import runpy

from setuptools import setup

build = runpy.run_path("csrc/build_library.py")
setup(ext_modules=[build["library"]()], cmdclass={"build_ext": build["BuildLibrary"]})
