"""Stopping at a safe point after SIGTERM or Ctrl-C."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SECONDS = 5  # a terminal signals the whole group and torchrun forwards the signal: one request arrives twice


class Interrupted(Exception):  # noqa: N818 - not an error
    """Work was stopped by a signal, after its state was saved."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number

    @property
    def exit_status(self) -> int:
        """The status that a shell reports for a process that was ended by the signal."""
        return 128 + self.number


class StopRequest:
    """The number of the signal that requested the stop, or None, and when it arrived."""

    number: int | None = None
    since = 0.0

    def __bool__(self) -> bool:
        return self.number is not None


@contextmanager
def deferred_signals() -> Iterator[StopRequest]:
    """Inside the block, SIGTERM and Ctrl-C only set a flag, so that the caller stops at a safe point; a second signal
    after five seconds takes effect at once.
    """
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def note(number: int, frame: object) -> None:
        if not request:
            request.number, request.since = number, time.monotonic()
        elif time.monotonic() > request.since + _SECONDS:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    try:
        for number in _SIGNALS:
            signal.signal(number, note)
        yield request
    finally:
        for number in _SIGNALS:
            signal.signal(number, before[number])
