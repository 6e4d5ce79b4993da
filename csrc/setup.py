"""getam-lattice on its own: the package getam_lattice with its library. Everything else is in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel


class AnyPython(bdist_wheel):
    """A wheel for one platform and every Python 3, whose ABI the library does not use."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


build = runpy.run_path(str(Path(__file__).with_name("build_library.py")))
setup(
    ext_modules=[build["library"]()],
    cmdclass={"build_ext": build["BuildLibrary"], "bdist_wheel": AnyPython},
)
