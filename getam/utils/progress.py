"""Progress bars on a terminal, plain lines in log files."""

import sys
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 30


def progress(iterable: Iterable | None = None, **options) -> tqdm:
    """tqdm on a terminal; elsewhere a plain line every 30 seconds and one at the end."""
    if sys.stderr.isatty():
        return tqdm(iterable, dynamic_ncols=True, **options)
    return tqdm(iterable, file=_Lines(sys.stderr), mininterval=_SECONDS_BETWEEN_LINES, miniters=1, ncols=0, **options)


class _Lines:
    """Writes each update of tqdm as a line of its own instead of overwriting the last one."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        self._stream.flush()
