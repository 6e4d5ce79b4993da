"""Ending in good order when the system or the user asks for it."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SECONDS = 5  # a terminal signals the whole group and a launcher like torchrun passes it on: one wish comes twice


class Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """Work was ended by a signal, after what was done has been saved."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number

    @property
    def exit_status(self) -> int:
        """What a shell reports of a process that a signal has ended."""
        return 128 + self.number


class StopRequest:
    """The number of the signal that has asked for the end, or None, and when it came."""

    number: int | None = None
    since = 0.0

    def __bool__(self) -> bool:
        return self.number is not None


@contextmanager
def deferred_signals() -> Iterator[StopRequest]:
    """Inside, SIGTERM and Ctrl-C are only written down, for the work to end where it can; one that comes some seconds
    after the first is obeyed at once.
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
