"""What a result was made from: digests of files and of code, versions, the commit."""

import ast
import hashlib
import inspect
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

_PACKAGE = __package__
# Modules of the package that no number depends on: they check, report and move files.
_WITHOUT_EFFECT = (
    "arguments",
    "datasets.identity",
    "files",
    "finished",
    "history",
    "interruption",
    "machine",
    "parallel",
    "pictures",
    "progress",
    "provenance",
    "resuming",
    "takeover",
)
_PACKAGES = ("getam", "torch", "timm", "numpy", "pillow", "safetensors", "opencv-python-headless")


def file_digest(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_digest(*modules: ModuleType) -> str:
    """sha256 of the source of some modules, so that what another version of them has made is known for it."""
    return hashlib.sha256("".join(inspect.getsource(module) for module in modules).encode()).hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """The installed version of each package."""
    return {package: version(package) for package in packages}


@cache
def step_digest(*modules: str) -> str:
    """sha256 of the code that a step of the chain computes with.

    That is some modules, such as `getam.training`, those of this package that they import, and so on, and the lattice
    in csrc/ if it is among them. Comments, docstrings and layout do not count, nor do modules without effect on any
    number.
    """
    digest = hashlib.sha256()
    names = sorted(built_on(*modules))
    for name in names:
        digest.update(f"{name}\n{_outline(_source(name))}\n".encode())
    if f"{_PACKAGE}._native" in names:
        for path in _sources_of_the_lattice():
            digest.update(f"{path.name}\n{path.read_text(encoding='utf-8')}\n".encode())
    return digest.hexdigest()


def _sources_of_the_lattice() -> list[Path]:
    """In a checkout they lie beside the package, elsewhere setup.py has put them into it."""
    package = Path(__file__).parent
    for folder in (package.parent / "csrc", package / "csrc"):
        if found := sorted(folder.glob("*.[ch]pp")):
            return found
    raise FileNotFoundError(
        f"{package}: the sources of the lattice, csrc/, are neither in it nor beside it; install getam anew"
    )


def built_on(*modules: str) -> set[str]:
    """The modules that `step_digest` looks at."""
    found, waiting = set(), list(modules)
    while waiting:
        name = waiting.pop()
        without_effect = name.removeprefix(f"{_PACKAGE}.") in _WITHOUT_EFFECT and name not in modules
        if name not in found and not without_effect:
            found.add(name)
            waiting += _imports(_source(name))
    return found


def _imports(source: str) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == _PACKAGE:
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [part for part in parts if _is_module(part)]
            if node.module != _PACKAGE and not all(map(_is_module, parts)):
                names.append(node.module)
    return names


@cache
def _is_module(name: str) -> bool:
    folder = Path(__file__).parent.joinpath(*name.split(".")[1:])
    return folder.with_suffix(".py").is_file() or (folder / "__init__.py").is_file()


def _source(name: str) -> str:
    return Path(find_spec(name).origin).read_text(encoding="utf-8")


def _outline(source: str) -> str:
    """The code without comments, docstrings and layout, written alike by every version of Python.

    `ast.unparse` and `ast.dump` are not: a run that goes on in a container with another Python would start afresh.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return repr(_plain(tree))


def _plain(node: object) -> object:
    """Tuples and texts; what is empty is left out, as versions differ in which empty fields a node has."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return type(node).__name__, *((name, _plain(value)) for name, value in fields)
    return [*map(_plain, node)] if isinstance(node, list) else repr(node)


def surroundings() -> dict[str, object]:
    """Commit, whether files differ from it, versions of Python and of the packages that calculate."""
    commit, changed = _commit()
    return {
        "commit": commit,
        "changed_since_commit": changed,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(*_PACKAGES),
    }


def _commit() -> tuple[str | None, bool | None]:
    """From git, or, where the package is no checkout, from the environment variable GETAM_COMMIT."""
    folder = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder.resolve():
            raise ValueError("the package lies in a checkout of something else")
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError, ValueError):
        return os.environ.get("GETAM_COMMIT"), None
