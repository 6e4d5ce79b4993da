"""Checkpoints of an unfinished training: written whole, checked when they are read, the newest two kept."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from getam.files import written
from getam.weights import CheckpointError

_KEPT = 2


class Checkpoints:
    """The checkpoints <step>.pt in a folder, of a training that `identity` describes.

    A file is the sha256 of what follows, then torch's format, which is read without running code.

    Args:
        folder: for this alone.
        identity: what the weights depend on: name -> digest. A checkpoint of another one is not taken up.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str]):
        self._folder, self._identity = folder, dict(identity)

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Writes the state after so many steps, whole or not at all, and removes older ones but one."""
        path = self._folder / f"{step:09}.pt"
        write_checkpoint(path, self._identity, step, state)
        for old in self._files()[:-_KEPT]:
            old.unlink()
        return path

    def latest(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest state that can be taken up, on the CPU, or None; and what is wrong with each newer one.

        A damaged file is passed over, and one of another identity: its line says in what it differs.
        """
        refused = []
        for path in reversed(self._files()):
            try:
                return read_checkpoint(path, self._identity), refused
            except CheckpointError as error:
                refused.append(str(error))
        return None, refused

    def remove_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, which `latest` has passed over: they would go before new ones."""
        for path in self._files():
            if int(path.stem) > step:
                path.unlink()

    def remove(self) -> None:
        """Removes all checkpoints, and the folder if nothing else is in it."""
        self.remove_after(-1)
        for unfinished in self._folder.glob(".*.pt.*"):
            unfinished.unlink()
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.pt"))


def write_checkpoint(path: Path, identity: Mapping[str, str], step: int, state: Mapping[str, Any]) -> None:
    """Writes the state after so many steps to a file, whole or not at all."""
    content = io.BytesIO()
    torch.save({"identity": dict(identity), "step": step, **state}, content)
    with written(path) as unfinished, unfinished.open("wb") as file:
        file.write(hashlib.sha256(content.getbuffer()).digest())
        file.write(content.getbuffer())


def read_checkpoint(path: Path, identity: Mapping[str, str]) -> dict[str, Any]:
    """The state that `write_checkpoint` wrote, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or of another identity: the message says in what it differs.
    """
    content = path.read_bytes()
    digest, body = content[:32], content[32:]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError(f"{path} is damaged")
    state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    found = state["identity"]
    differing = [name for name in sorted({*found, *identity}) if found.get(name) != identity.get(name)]
    if differing:
        raise CheckpointError(f"{path} was made with other {' and '.join(differing)}")
    return state
