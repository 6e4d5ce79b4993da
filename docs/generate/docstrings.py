"""Docstrings taken apart: text, arguments, what is returned, errors, examples."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from textwrap import dedent

_HEADING = re.compile(r"^(Args|Attributes|Returns|Raises|Example|Examples):$", re.MULTILINE)
_ENTRY = re.compile(r"^(\S[^\n:]*):\s", re.MULTILINE)


@dataclass
class Docstring:
    """Parts of a docstring in the style of this package.

    Attributes:
        text: everything that is in no other part.
        sections: of Args, Attributes, Returns and Raises the entries, name -> meaning; Returns has the name "" where it
            is plain text.
        example: the doctest, with its prompts.
    """

    text: str
    sections: dict[str, dict[str, str]] = field(default_factory=dict)
    example: str = ""


def parse(docstring: str) -> Docstring:
    """A docstring as `inspect.getdoc` returns it.

    Raises:
        ValueError: there is none.
    """
    if not docstring:
        raise ValueError("a public name has no docstring")
    found = Docstring("")
    # A section ends where its indentation ends.
    pieces = re.split(r"\n{2,}(?=\S)", docstring)
    text = []
    for piece in pieces:
        heading = _HEADING.match(piece)
        if heading and heading[1].startswith("Example"):
            found.example += dedent(piece[heading.end() :]).strip("\n") + "\n"
        elif heading:
            found.sections.setdefault(heading[1], {}).update(_entries(dedent(piece[heading.end() :].strip("\n"))))
        elif piece.startswith(">>> "):
            found.example += piece + "\n"
        else:
            text.append(piece)
    found.text = "\n\n".join(text)
    return found


def _entries(text: str) -> dict[str, str]:
    starts = [match for match in _ENTRY.finditer(text) if not match[1].startswith("(")]
    if not starts or starts[0].start() > 0:
        return {"": text}
    ends = [*(match.start() for match in starts[1:]), len(text)]
    return {match[1]: text[match.end() :][: end - match.end()].strip() for match, end in zip(starts, ends, strict=True)}


def meanings(text: str, names: Collection[str]) -> dict[str, str]:
    """What a docstring such as `crop: side of the views. batch: images of one step.` says about each name.

    A name that only the meaning of another one mentions refers to it.
    """
    name = "`?(?:" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + ")`?"
    starts = list(re.finditer(rf"(?:^|(?<=\s))({name}(?:,? (?:and )?{name})*): ", text))
    ends = [match.start() for match in starts[1:]] + [len(text)] * bool(starts)
    found = {}
    for match, end in zip(starts, ends, strict=True):
        meaning = " ".join(text[match.end() : end].split()).rstrip(".;")
        for each in re.findall(r"\w+", match[1]):
            if each in names:
                found[each] = meaning
    for each in names:
        if each not in found:
            mentioned = [other for other, meaning in found.items() if f"`{each}`" in meaning]
            if mentioned:
                found[each] = f"see `{mentioned[0]}`"
    return found
