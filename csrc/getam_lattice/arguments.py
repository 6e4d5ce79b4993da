"""What the functions of `densecrf` accept, and messages that say what to pass instead."""

from collections.abc import Sequence
from numbers import Real
from typing import Union

import numpy as np

from getam_lattice.checks import check_positive


def plain_array(argument: str, value: np.ndarray, dtype: type, axes: Sequence[str]) -> np.ndarray:
    """The value, if it is a C-contiguous array of this type with these axes.

    Raises:
        TypeError: it is no array.
        ValueError: its type, axes or memory differ; the message says how to convert it.
    """
    name = np.dtype(dtype).name
    wanted = f"a C-contiguous {name} array ({', '.join(axes)}{',' if len(axes) == 1 else ''})"
    if not isinstance(value, np.ndarray):
        try:
            value = np.asarray(memoryview(value))
        except TypeError:
            raise TypeError(
                f"{argument}: expected {wanted}, got {type(value).__name__}; pass np.asarray({argument}, np.{name})"
            ) from None
    if value.ndim != len(axes):
        raise ValueError(f"{argument}: expected {wanted}, got {value.ndim} axes: {value.shape}{_hint(argument, value)}")
    if value.dtype != dtype:
        hint = f"pass {argument}.astype(np.{name}){_scale_hint(value, dtype)}"
        raise ValueError(f"{argument}: expected {wanted}, got {value.dtype}; {hint}")
    if not value.flags.c_contiguous:
        raise ValueError(
            f"{argument}: expected {wanted}, got one with strides {value.strides}, such as a slice, a transpose or a "
            f"reversed view; pass np.ascontiguousarray({argument})"
        )
    return value


def _hint(argument: str, value: np.ndarray) -> str:
    return f"; pass {argument}.reshape({argument}.shape[0], -1)" if value.ndim > 2 else ""


def _scale_hint(value: np.ndarray, dtype: type) -> str:
    fractions = dtype == np.uint8 and np.issubdtype(value.dtype, np.floating)
    return ", with values from 0 to 255" if fractions else ""


def same_shape(argument: str, value: np.ndarray, shape: Sequence[int], meaning: str) -> np.ndarray:
    """The value, if it has this shape; `meaning` names the shape's axes in the message."""
    if value.shape != tuple(shape):
        raise ValueError(f"{argument}: expected shape {tuple(shape)}, {meaning}, got {value.shape}")
    return value


def finite(argument: str, value: np.ndarray) -> np.ndarray:
    """The value, if it holds neither NaN nor infinity."""
    if not np.isfinite(value).all():
        raise ValueError(f"{argument}: expected finite numbers, got NaN or infinity")
    return value


def deviations(argument: str, value: Union[float, Sequence[float]], count: int) -> tuple[float, ...]:
    """`count` standard deviations from one number or as many."""
    values = (value,) * count if isinstance(value, Real) else tuple(value)
    if len(values) != count:
        raise ValueError(f"{argument}: expected a number or {count} numbers, got {len(values)}")
    check_positive(**{f"{argument}[{i}]": x for i, x in enumerate(values)})
    return tuple(float(x) for x in values)


def compatibility(compat: Union[float, np.ndarray], labels: int) -> np.ndarray:
    """What the filtered marginals are multiplied by before they are added to the scores.

    A number w stands for -w times the identity; a vector (labels,) and a matrix (labels, labels), which is made
    symmetric, are energies: they are subtracted.
    """
    if isinstance(compat, Real):
        return finite("compat", np.asarray(compat, np.float32))
    array = np.asarray(compat) if isinstance(compat, np.ndarray) else compat
    axes = ("labels",) if getattr(array, "ndim", 1) < 2 else ("labels", "labels")
    array = finite("compat", plain_array("compat", array, np.float32, axes))
    same_shape("compat", array, (labels,) * array.ndim, "one energy per label or per pair of labels")
    return -array if array.ndim == 1 else -0.5 * (array + array.T)


def energies(argument: str, value: np.ndarray) -> np.ndarray:
    """A copy of energies in which the library's bound stands for infinity."""
    if np.isnan(value).any():
        raise ValueError(f"{argument}: expected numbers, got NaN")
    return np.clip(value, -1e30, 1e30)
