"""Checks of arguments that several functions make, in one wording."""

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def check_shape(argument: str, value: "Tensor", shape: Sequence[int]) -> None:
    """A ValueError that names the argument, unless `value` has this shape."""
    if value.shape != tuple(shape):
        raise ValueError(f"{argument}: expected shape {tuple(shape)}, got {tuple(value.shape)}")


def check_choice(argument: str, value: str, choices: Sequence[str]) -> None:
    """A ValueError that names the argument, unless `value` is one of the choices."""
    if value not in choices:
        raise ValueError(f"{argument}: expected one of {', '.join(choices)}, got {value!r}")


def check_known(where: str, name: str, known: Iterable[str]) -> None:
    """A ValueError that says where the name stands, unless it is among the known ones."""
    if name not in known:
        raise ValueError(f"{where}: there is no {name!r}; {suggestion(name, known)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known one that looks most like it, or all of them."""
    close = get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


def shortened(names: Sequence[str], most: int = 5) -> str:
    """A list for a message: `a, b, c`, and `, ...` where there are more than `most`."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def check_whole(lowest: int = 0, **values: int) -> None:
    """A ValueError that names the argument, unless every value is a whole number from `lowest` that fits 32 bits."""
    for argument, value in values.items():
        if not (isinstance(value, int) and lowest <= value < 2**31):
            raise ValueError(f"{argument}: expected a whole number from {lowest}, got {value!r}")


def check_positive(**values: float) -> None:
    """A ValueError that names the argument, unless every value is a finite number above 0."""
    for argument, value in values.items():
        if not (isinstance(value, int | float) and 0 < value < math.inf):
            raise ValueError(f"{argument}: expected a number above 0, got {value!r}")
