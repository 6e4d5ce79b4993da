"""Checks of arguments that several functions share, and the wording of their messages."""

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


_MOST_NAMES = 30  # of a list of known names in a message; ImageNet has 1000 classes


def check_shape(argument: str, value: "Tensor", shape: Sequence[int]) -> None:
    """Raises a ValueError that names the argument, unless `value` has this shape."""
    if value.shape != tuple(shape):
        raise ValueError(f"{argument}: expected shape {tuple(shape)}, got {tuple(value.shape)}")


def check_choice(argument: str, value: str, choices: Sequence[str]) -> None:
    """Raises a ValueError that names the argument, unless `value` is one of the choices."""
    if value not in choices:
        raise ValueError(f"{argument}: expected one of {', '.join(choices)}, got {value!r}")


def check_known(where: str, name: str, known: Iterable[str]) -> None:
    """Raises a ValueError that names the place `where`, unless `name` is known."""
    if name not in known:
        raise ValueError(f"{where}: there is no {name!r}; {suggestion(name, known)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the most similar known name, or the known names."""
    names = list(known)
    close = get_close_matches(name, names, 1)
    return f"did you mean {close[0]}?" if close else f"known are {shortened(names, _MOST_NAMES)}"


def shortened(names: Sequence[str], most: int = 5, separator: str = ", ") -> str:
    """A list for a message: `a, b, c, and 7 more`, at most `most` of them by name."""
    rest = len(names) - most
    return separator.join([*names[:most], *([f"and {rest} more"] if rest > 0 else [])])


def check_whole(lowest: int = 0, **values: int) -> None:
    """Raises a ValueError that names the argument, unless each value is a whole number from `lowest` to 2^31 - 1."""
    for argument, value in values.items():
        if not (isinstance(value, Integral) and lowest <= value < 2**31):
            raise ValueError(f"{argument}: expected a whole number from {lowest}, got {value!r}")


def check_positive(**values: float) -> None:
    """Raises a ValueError that names the argument, unless every value is a finite number above 0."""
    for argument, value in values.items():
        if not (isinstance(value, Real) and 0 < value < math.inf):
            raise ValueError(f"{argument}: expected a number above 0, got {value!r}")
