"""Progress for people and for log files."""

import sys
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 30


def progress(iterable: Iterable | None = None, **options) -> tqdm:
    """tqdm on a terminal; elsewhere, in a log, a plain line every half a minute and one at the end."""
    if sys.stderr.isatty():
        return tqdm(iterable, dynamic_ncols=True, **options)
    return tqdm(iterable, file=_Lines(sys.stderr), mininterval=_SECONDS_BETWEEN_LINES, miniters=1, ncols=0, **options)


class _Lines:
    """Writes what tqdm draws over itself as lines of their own."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        self._stream.flush()
