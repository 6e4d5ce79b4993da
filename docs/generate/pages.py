"""The generated pages, by name."""

from collections.abc import Callable
from pathlib import Path

from docs.generate import api, command_line, settings, targets

PAGES: dict[str, Callable[[], str]] = {
    "settings": settings.page,
    "command-line": command_line.page,
    "targets": targets.page,
    "api": api.page,
}


def path_of(name: str) -> Path:
    """Where a page is stored."""
    return Path(__file__).parents[1] / "reference" / f"{name}.md"
