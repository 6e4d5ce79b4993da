"""Large JSON files, read element by element."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

_CHUNK = 2**20
_BLANK = " \t\n\r"
_MARK = b"\xef\xbb\xbf"  # some editors begin UTF-8 files with it
Take = Callable[[object, int, int], object]


def read_object(path: Path, elements: Mapping[str, Take]) -> dict[str, object]:
    """The object in a UTF-8 file, without holding its largest arrays.

    Args:
        elements: by the key of an array: a function that is called with each of its elements, the element's first byte
            in the file, and its number of bytes, so that it can be read again.

    Returns:
        the other members; in the place of each such array, its number of elements.

    Raises:
        ValueError: the file is not JSON or not an object, or such a member is not an array.
    """
    with path.open("rb") as file:
        reader = _Reader(file)
        content = {}
        for _ in reader.separated("{", "}"):
            key = reader.value()[0]
            reader.expect(":")
            if key not in elements:
                content[key] = reader.value()[0]
                continue
            content[key] = 0
            for _ in reader.separated("[", "]"):
                elements[key](*reader.value())
                content[key] += 1
        if reader.peek():
            raise ValueError(f"there is more after the object, at byte {reader.place}")
        return content


class _Reader:
    """A window of a file. Each byte is one character, so that places in the text are places in the file."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._before = file.seek(len(_MARK) if file.read(len(_MARK)) == _MARK else 0)
        self._text, self._at = "", 0
        self._decode = json.JSONDecoder().raw_decode

    @property
    def place(self) -> int:
        """The next byte of the file."""
        return self._before + self._at

    def _more(self) -> bool:
        """Moves the window on and enlarges it, for values of any length; False at the end of the file."""
        chunk = self._file.read(max(_CHUNK, len(self._text) - self._at))
        if chunk:
            self._before, self._text, self._at = self.place, self._text[self._at :] + chunk.decode("latin-1"), 0
        return bool(chunk)

    def peek(self) -> str:
        """The next character that is not blank; nothing at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANK:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def expect(self, character: str) -> None:
        """Passes one character. Raises a ValueError if it is another."""
        if self.peek() != character:
            raise ValueError(f"expected {character!r} at byte {self.place}, found {self.peek() or 'the end'!r}")
        self._at += 1

    def separated(self, first: str, last: str) -> Iterator[None]:
        """Yields before each member of an object or array, which the caller reads; passes brackets and commas."""
        self.expect(first)
        if self.peek() != last:
            yield
            while self.peek() == ",":
                self._at += 1
                yield
        self.expect(last)

    def value(self) -> tuple[object, int, int]:
        """The next value, its first byte, and its number of bytes."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                if end < len(self._text) or not self._more():  # a number at the end of the window may go on
                    break
            except json.JSONDecodeError:
                if not self._more():
                    raise
        start, text = self.place, self._text[self._at : end]
        self._at = end
        return (value if text.isascii() else json.loads(text.encode("latin-1"))), start, len(text)
