"""The build of the lattice for setuptools: as part of getam, and as getam-lattice (csrc/setup.py).

The library is plain C++ behind a C interface, loaded by ctypes: it needs a compiler, and neither Python's headers, nor
OpenMP. One build serves every Python.
"""

import os
import platform
import shutil
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext

try:
    import tomllib
except ModuleNotFoundError:  # Python before 3.11
    import tomli as tomllib

FOLDER = Path(__file__).parent
FLAGS = tomllib.loads((FOLDER / "flags.toml").read_text(encoding="utf-8"))
# Appended to the flags of compiler and linker, for sanitizers for instance.
EXTRA = os.environ.get("GETAM_EXTRA_FLAGS", "").split()
# The digests of getam's results cover these (getam/utils/provenance.py), beside the package's modules.
SOURCES = ("*.cpp", "*.h", "flags.toml")


def library() -> Extension:
    sources = [os.path.relpath(FOLDER / f"{name}.cpp") for name in ("lattice", "kernels", "interface")]
    return Extension("getam_lattice.libgetam", sources=sources)


def machine() -> str:
    """The processor that is built for; GETAM_MACHINE names it in a cross build."""
    return os.environ.get("GETAM_MACHINE", platform.machine()).lower()


class BuildLibrary(build_ext):
    def get_ext_filename(self, fullname: str) -> str:
        return "/".join(fullname.split(".")) + ".so"  # no Python module, hence no Python version in its name

    def get_export_symbols(self, extension: Extension) -> list[str]:
        return []

    def run(self) -> None:
        super().run()
        if not (self.inplace or self.editable_mode):
            target = Path(self.build_lib, "getam_lattice", "csrc")
            self.mkpath(str(target))
            for pattern in SOURCES:
                for path in sorted(FOLDER.glob(pattern)):
                    self.copy_file(str(path), str(target))

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
        x86 = machine() in ("x86_64", "amd64")
        objects = self._compile("lattice", FLAGS["exact"])
        objects += self._compile("kernels", FLAGS["fast"], instruction_set="portable")
        objects += self._compile("interface", [], with_avx2=x86)
        if x86:
            # Last: of several copies of a function of the standard library the linker keeps the first, which must run
            # on every processor.
            objects += self._compile("kernels", FLAGS["fast"] + FLAGS["avx2"], instruction_set="avx2")
        self.compiler.link_shared_object(
            objects, self.get_ext_fullpath(extension.name), extra_postargs=["-pthread", *EXTRA], target_lang="c++"
        )

    def _compile(self, source: str, flags: list[str], instruction_set="", with_avx2=False) -> list[str]:
        macros = [("GETAM_INSTRUCTION_SET", instruction_set)] if instruction_set else []
        macros += [("GETAM_WITH_AVX2", None)] if with_avx2 else []
        return self.compiler.compile(
            [os.path.relpath(FOLDER / f"{source}.cpp")],
            output_dir=str(Path(self.build_temp, instruction_set)),
            macros=macros,
            extra_postargs=FLAGS["all"] + flags + EXTRA,
        )
