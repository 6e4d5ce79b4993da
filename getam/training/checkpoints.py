"""Checkpoints of an unfinished training, and the result of a finished one.

A checkpoint is written whole or not at all and checked when it is read; the newest two are kept. When settings, data or
code change, the work of the earlier training is set aside in the folder `previous` until the new result exists.
"""

import hashlib
import io
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from getam.config.experiment import PROVENANCE, WEIGHTS
from getam.models.saving import read_description
from getam.models.weights import CheckpointError
from getam.utils.files import written

_KEPT = 2
CHECKPOINTS, PREVIOUS = "checkpoints", "previous"


class Checkpoints:
    """The checkpoints <step>.pt of one training.

    A file begins with the sha256 of the rest, which is in torch's format and read without running code.

    Args:
        folder: of the training; its checkpoints are in `checkpoints`, those of an earlier training in `previous`.
        identity: digests of everything that the weights depend on, by name. Other checkpoints are not resumed.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str]):
        self.folder, self._identity = folder / CHECKPOINTS, dict(identity)
        self._previous = folder / PREVIOUS / CHECKPOINTS

    def select(self) -> list[str]:
        """Sets the checkpoints of another identity aside, and brings back those of this one that were set aside.

        Returns:
            lines for the log if anything was moved: the reasons, and the folder.
        """
        state, refused = self.latest()
        if state is not None:
            return []
        unfinished, there = self.folder.with_name(f".{CHECKPOINTS}"), bool(self._files())
        matching = Checkpoints(self._previous.parent, self._identity).latest()[0] is not None
        if not (there or matching):
            return []
        shutil.rmtree(unfinished, ignore_errors=True)
        if there:
            self.folder.rename(unfinished)
        if matching:
            self._previous.rename(self.folder)
        if there:
            shutil.rmtree(self._previous, ignore_errors=True)
            self._previous.parent.mkdir(exist_ok=True)
            unfinished.rename(self._previous)
        if matching:
            return [*refused, f"the checkpoints in {self._previous} belong to this training: they are used again"]
        return [*refused, f"the checkpoints are set aside in {self._previous} until this training ends"]

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Writes the state after `step` steps, whole or not at all, and removes all older ones but one."""
        path = self.folder / f"{step:09}.pt"
        write_checkpoint(path, self._identity, step, state)
        for old in self._files()[:-_KEPT]:
            old.unlink()
        return path

    def latest(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest state that can be resumed, on the CPU, or None; and what is wrong with each newer one.

        Damaged files and files of another identity are skipped; for the latter the line says in what they differ.
        """
        refused = []
        for path in reversed(self._files()):
            try:
                return read_checkpoint(path, self._identity), refused
            except CheckpointError as error:
                refused.append(str(error))
        return None, refused

    def remove_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, which are damaged or were not followed by a good step."""
        for path in self._files():
            if int(path.stem) > step:
                path.unlink()

    def discard(self) -> None:
        """Removes the checkpoints of this identity, also those that were set aside."""
        for path in (*self._files(), *self._previous.glob("[0-9]*.pt")):
            with suppress(CheckpointError):  # of another identity
                read_checkpoint(path, self._identity)
                path.unlink()

    def remove(self) -> None:
        """Removes all checkpoints, and the folder if nothing else is in it."""
        self.remove_after(-1)
        for unfinished in self.folder.glob(".*.pt.*"):
            unfinished.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.pt"))


def write_checkpoint(path: Path, identity: Mapping[str, str], step: int, state: Mapping[str, Any]) -> None:
    """Writes the state after `step` steps to a file, whole or not at all; equal states give equal bytes."""
    content = io.BytesIO()
    torch.save(_interned({"identity": dict(identity), "step": step, **state}), content)
    with written(path) as unfinished, unfinished.open("wb") as file:
        file.write(hashlib.sha256(content.getbuffer()).digest())
        file.write(content.getbuffer())


def _interned(value: Any) -> Any:
    """The same with one object for equal strings: a file shows which are one, and that changes when a state is read."""
    if isinstance(value, Mapping):
        return {_interned(key): _interned(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_interned, value))
    return sys.intern(value) if isinstance(value, str) else value


def read_checkpoint(path: Path, identity: Mapping[str, str]) -> dict[str, Any]:
    """The state that `write_checkpoint` wrote, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or of another identity; the message says in what it differs.
    """
    state = read_any_checkpoint(path)
    found = state["identity"]
    differing = [name for name in sorted({*found, *identity}) if found.get(name) != identity.get(name)]
    if differing:
        raise CheckpointError(f"{path} was made with other {' and '.join(differing)}")
    return state


def read_any_checkpoint(path: Path) -> dict[str, Any]:
    """As `read_checkpoint`, of whatever identity.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged.
    """
    content = path.read_bytes()
    digest, body = content[:32], content[32:]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError(f"{path} is damaged")
    return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)


# Links to the results that are not declared to Snakemake, which removes the outputs of jobs that seem incomplete.
_LINKS = "finished"
_REQUEST = ".again"  # the request that the training was last discarded for


class FinishedTraining:
    """The result of a training, in its folder.

    Args:
        folder: of the training.
        result: name of the result's file, `WEIGHTS` or `FIRST_PHASE`.
        identity: digests of everything that the result depends on, by name.
    """

    def __init__(self, folder: Path, result: str, identity: Mapping[str, str]):
        self.result = folder / result
        self.identity = dict(identity)
        self._folder, self._links, self._previous = folder, folder / _LINKS, folder / PREVIOUS
        self._names = (PROVENANCE, result)

    def exists(self, restore: bool) -> bool:
        """Whether a training of this identity has ended here.

        Args:
            restore: bring back those of its files that were removed or set aside since.
        """
        for place in (self._folder, self._links, self._previous):
            if (place / PROVENANCE).is_file() and self._is_mine(place / self.result.name):
                if restore and place != self._folder:
                    for name in self._names:
                        _link(place / name, self._folder / name)
                    if place == self._previous:
                        self.keep()
                return True
        return False

    def _is_mine(self, result: Path) -> bool:
        try:
            if result.name == WEIGHTS:
                return read_description(result).get("about") == self.identity
            read_checkpoint(result, self.identity)
        except (FileNotFoundError, CheckpointError):
            return False
        return True

    def keep(self) -> None:
        """Links the result and its provenance, so that `exists` can restore them."""
        for name in self._names:
            _link(self._folder / name, self._links / name)

    def discard(self) -> None:
        """Removes the result of this identity everywhere, so that `exists` is false."""
        for place in (self._folder, self._links, self._previous):
            if self._is_mine(place / self.result.name):
                for name in self._names:
                    (place / name).unlink(missing_ok=True)

    def set_aside(self) -> bool:
        """Moves the result of another identity to `previous`, as another training begins; whether there was one."""
        found = False
        for place in (self._links, self._folder):
            if (place / self.result.name).is_file():
                self._previous.mkdir(exist_ok=True)
                for name in self._names:
                    if (place / name).is_file():
                        (place / name).replace(self._previous / name)
                found = True
        shutil.rmtree(self._links, ignore_errors=True)
        return found

    def forget_previous(self) -> None:
        """Removes what was set aside: the new result exists."""
        shutil.rmtree(self._previous, ignore_errors=True)


def discard_training(finished: FinishedTraining, request: str) -> bool:
    """Removes the result and the checkpoints of a training, once for each request.

    Args:
        request: names the request. A repeated one removes nothing: the training that it has begun resumes. Empty: never
            the same.

    Returns:
        whether they were removed.
    """
    folder = finished.result.parent
    note = folder / _REQUEST
    if request and note.is_file() and note.read_text(encoding="utf-8") == request:
        return False
    finished.discard()
    Checkpoints(folder, finished.identity).discard()
    with written(note) as unfinished:
        unfinished.write_text(request, encoding="utf-8")
    return True


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with written(target) as unfinished:
        try:
            unfinished.hardlink_to(source)
        except OSError:  # a file system without links
            shutil.copy2(source, unfinished)
    os.utime(target)
