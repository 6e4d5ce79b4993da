"""Digests that tell whether something was made from what is there now."""

import hashlib
import inspect
from importlib.metadata import version
from pathlib import Path
from types import ModuleType


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
