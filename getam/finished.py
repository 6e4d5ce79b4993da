"""The end of a training: its result and its provenance, kept where Snakemake does not remove them."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from getam.checkpoints import read_description
from getam.experiment import PROVENANCE, WEIGHTS
from getam.files import written
from getam.resuming import read_checkpoint
from getam.weights import CheckpointError

# Links to the results, which Snakemake knows nothing of: it removes the outputs of a job that it takes for incomplete.
_LINKS = "finished"


class Finished:
    """The end of a training in a folder.

    Args:
        folder: of the training.
        result: name of the file that it is for: `WEIGHTS` or `FIRST_PHASE`.
        identity: what the result depends on: name -> digest.
    """

    def __init__(self, folder: Path, result: str, identity: Mapping[str, str]):
        self.result = folder / result
        self._identity = dict(identity)
        self._folder, self._links = folder, folder / _LINKS
        self._names = (PROVENANCE, result)

    def reached(self, bring_back: bool) -> bool:
        """Whether a training of this identity has ended here.

        Args:
            bring_back: put what was removed of its results since where it was.
        """
        for place in (self._folder, self._links):
            if (place / PROVENANCE).is_file() and self._is_mine(place / self.result.name):
                if bring_back and place != self._folder:
                    for name in self._names:
                        _link(place / name, self._folder / name)
                return True
        return False

    def _is_mine(self, result: Path) -> bool:
        try:
            if result.name == WEIGHTS:
                return read_description(result).get("about") == self._identity
            read_checkpoint(result, self._identity)
        except (FileNotFoundError, CheckpointError):
            return False
        return True

    def keep(self) -> None:
        """Links what is there now."""
        for name in self._names:
            _link(self._folder / name, self._links / name)

    def forget(self) -> None:
        """Removes the result and the links: another training begins."""
        self.result.unlink(missing_ok=True)
        shutil.rmtree(self._links, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with written(target) as unfinished:
        try:
            unfinished.hardlink_to(source)
        except OSError:  # a file system without links
            shutil.copy2(source, unfinished)
    os.utime(target)
