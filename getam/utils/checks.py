"""Checks of arguments that several functions share, and the wording of their messages."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from getam_lattice.checks import check_choice as check_choice
from getam_lattice.checks import check_positive as check_positive
from getam_lattice.checks import check_shape as check_shape
from getam_lattice.checks import check_whole as check_whole

_MOST_NAMES = 30  # of a list of known names in a message; ImageNet has 1000 classes


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
