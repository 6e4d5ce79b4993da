"""Checks of arguments and the wording of their messages."""

import math
from collections.abc import Sequence
from numbers import Integral, Real


def check_shape(argument: str, value, shape: Sequence[int]) -> None:
    """Raises a ValueError that names the argument, unless `value`, an array or a tensor, has this shape."""
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"{argument}: expected shape {tuple(shape)}, got {tuple(value.shape)}")


def check_choice(argument: str, value: str, choices: Sequence[str]) -> None:
    """Raises a ValueError that names the argument, unless `value` is one of the choices."""
    if value not in choices:
        raise ValueError(f"{argument}: expected one of {', '.join(choices)}, got {value!r}")


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
