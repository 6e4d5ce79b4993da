"""Markdown that GitHub and the site show alike."""

import re
from collections.abc import Iterable, Sequence

GENERATED = "<!-- Written by `make reference` from the code; edit the code, not this page. -->"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are one line each, and their pipes are escaped. A column without content is left out."""
    rows = [list(row) for row in rows]
    kept = [i for i in range(len(columns)) if not rows or any(row[i] for row in rows)]
    columns, rows = [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(columns), "|" + "---|" * len(columns), *map(line, rows)])


def prose(text: str) -> str:
    """Text of a docstring. `<id>` outside code would be taken for HTML; mentions of the method's page become links."""
    text = re.sub(r"docs/explanation/method\.md,?(?=\s+section)", "[the method](../explanation/method.md),", text)
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"<(?=[a-z])", "&lt;", part) for part in parts)


def code(text: object) -> str:
    """A value as code."""
    return f"`{text}`"


def joined(*parts: str) -> str:
    """A page of some parts, with an empty line between them."""
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"
