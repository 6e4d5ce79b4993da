"""Builds the lattice of csrc/; everything else about the package is in pyproject.toml.

The library is plain C++ behind a C interface, loaded by ctypes: it needs a compiler, and neither Python's headers, nor
torch's, nor OpenMP.
"""

import os
import platform
import shutil
import tomllib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

LIBRARY = Extension(
    "getam.lattice.libgetam", sources=[f"csrc/{name}.cpp" for name in ("lattice", "kernels", "interface")]
)
FLAGS = tomllib.loads(Path("csrc/flags.toml").read_text(encoding="utf-8"))
# Appended to the flags of compiler and linker, for sanitizers for instance.
EXTRA = os.environ.get("GETAM_EXTRA_FLAGS", "").split()


class BuildLibrary(build_ext):
    def get_ext_filename(self, fullname: str) -> str:
        return "/".join(fullname.split(".")) + ".so"  # no Python module, hence no Python version in its name

    def get_export_symbols(self, extension: Extension) -> list[str]:
        return []

    def run(self) -> None:
        super().run()
        if not (self.inplace or self.editable_mode):
            # The digests of results cover these sources, too (getam/utils/provenance.py).
            self.copy_tree("csrc", str(Path(self.build_lib, "getam", "lattice", "csrc")))

    def build_extension(self, extension: Extension) -> None:
        if self.compiler.compiler_type != "unix":
            raise SystemExit("getam's lattice needs GCC or Clang on Linux or macOS; on Windows use WSL.")
        compiler = self.compiler.compiler_cxx[0]
        if shutil.which(compiler) is None:
            raise SystemExit(
                f"getam's lattice is built with a C++ compiler, and there is no {compiler!r} on this machine.\n"
                "Install one and try again. Debian and Ubuntu: apt-get install g++. Fedora: dnf install gcc-c++. "
                "macOS: xcode-select --install. Another compiler: set CXX and CC."
            )
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        objects = self._compile(extension, "lattice", FLAGS["exact"])
        objects += self._compile(extension, "kernels", FLAGS["fast"], instruction_set="portable")
        objects += self._compile(extension, "interface", [], with_avx2=x86)
        if x86:
            # Last: of several copies of a function of the standard library the linker keeps the first, which must run
            # on every processor.
            objects += self._compile(extension, "kernels", FLAGS["fast"] + FLAGS["avx2"], instruction_set="avx2")
        self.compiler.link_shared_object(
            objects, self.get_ext_fullpath(extension.name), extra_postargs=["-pthread", *EXTRA], target_lang="c++"
        )

    def _compile(self, extension: Extension, source: str, flags: list[str], instruction_set="", with_avx2=False):
        macros = [("GETAM_INSTRUCTION_SET", instruction_set)] if instruction_set else []
        macros += [("GETAM_WITH_AVX2", None)] if with_avx2 else []
        return self.compiler.compile(
            [f"csrc/{source}.cpp"],
            output_dir=str(Path(self.build_temp, instruction_set)),
            macros=macros,
            extra_postargs=FLAGS["all"] + flags + EXTRA,
        )


setup(ext_modules=[LIBRARY], cmdclass={"build_ext": BuildLibrary})
