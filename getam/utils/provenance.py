"""The inputs of a result: digests of files and of code, versions, the commit."""

import ast
import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

_FOLDER = Path(__file__).parents[1]
# Where Python finds it: in csrc/ of a checkout, beside getam, or wherever a wheel of its own was installed.
_LATTICE_FOLDER = Path(find_spec("getam_lattice").submodule_search_locations[0])
_LATTICE_SOURCES = ("*.cpp", "*.h", "flags.toml")
# Modules, and rooms of modules, that no result depends on: they check, report and move files.
_WITHOUT_EFFECT = (
    "getam.data.digests",
    "getam.data.visualisation",
    "getam.training.checkpoints",
    "getam.training.description",
    "getam.training.history",
    "getam.utils.",
    "getam_lattice.checks",
)
_PACKAGES = ("getam", "torch", "timm", "numpy", "pillow", "safetensors", "opencv-python-headless")


def file_digest(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """The installed version of each package."""
    return {package: version(package) for package in packages}


@cache
def step_digest(*modules: str) -> str:
    """sha256 of the code that a step of the chain computes with.

    It covers `modules_of_step`: the modules named, such as `getam.training.launch`, and every module of getam and
    getam_lattice that they import, directly or not; and the lattice's C++ sources (csrc/) if one of them loads it.
    Comments, docstrings and layout do not count, nor do modules that no number depends on.

    Raises:
        ValueError: a name is that of a package, whose `__init__` computes nothing, or of no module.
    """
    digest = hashlib.sha256()
    names = sorted(modules_of_step(*modules))
    for name in names:
        digest.update(f"{name}\n{_outline(_source(name))}\n".encode())
    if "getam_lattice.library" in names:
        for path in lattice_sources():
            digest.update(f"{path.name}\n{path.read_text(encoding='utf-8')}\n".encode())
    return digest.hexdigest()


def lattice_sources() -> list[Path]:
    """The files of csrc/ that the lattice is built from: sources, headers, compiler flags.

    In a checkout they are in csrc/ around the package getam_lattice; the build copies them into an installed one.
    """
    for folder in (_LATTICE_FOLDER / "csrc", _LATTICE_FOLDER.parent):
        if found := sorted(path for pattern in _LATTICE_SOURCES for path in folder.glob(pattern)):
            return found
    raise FileNotFoundError(
        f"{_LATTICE_FOLDER}: the sources of the lattice, csrc/, are neither in it nor around it; reinstall getam"
    )


def modules_of_step(*modules: str) -> set[str]:
    """The modules that `step_digest` covers. Raises as it does."""
    found, waiting = set(), list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and (name in modules or not name.startswith(_WITHOUT_EFFECT)):
            found.add(name)
            waiting += _imports(_source(name))
    return found


@cache
def _imports(source: str) -> list[str]:
    """Modules of these packages that a source imports, inside functions too."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if _is_module(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module and _is_ours(node.module):
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [part for part in parts if _is_module(part)]
            if _is_module(node.module):
                names.append(node.module)
    return names


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in ("getam", "getam_lattice")


@cache
def _is_module(name: str) -> bool:
    """Whether this is a module of these packages; packages are none, as their `__init__` computes nothing."""
    return _is_ours(name) and _path(name).is_file()


def _path(name: str) -> Path:
    package, *parts = name.split(".")
    folder = _FOLDER if package == "getam" else _LATTICE_FOLDER
    return folder.joinpath(*parts).with_suffix(".py")


def _source(name: str) -> str:
    if not _is_module(name):
        kind = "a package: name its modules" if _path(name).with_suffix("").is_dir() else "not a module of getam"
        raise ValueError(f"step digest of {name!r}: it is {kind}")
    return _path(name).read_text(encoding="utf-8")


@cache
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


def environment() -> dict[str, object]:
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
    folder = _FOLDER.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder.resolve():
            raise ValueError("the package lies in a checkout of something else")
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError, ValueError):
        return os.environ.get("GETAM_COMMIT"), None
