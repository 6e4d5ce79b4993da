"""Folders of files that an interrupted run goes on with: one file an image, and a note of what they were made from."""

from pathlib import Path

from filelock import FileLock

from getam.files import read_json, write_json

NOTE = "settings.json"


def take_over(folder: Path, made_from: dict[str, object], suffix: str, reuse: bool = True) -> set[str]:
    """Names of the files of a folder that may stay, as they were made from the same; all others are removed.

    The note is written first, so that files of an interrupted run are known. Several processes may call this at once,
    as shards of one job do.

    Args:
        made_from: what a file depends on, but for its image.
        suffix: of the files.
        reuse: False removes them even so.

    Raises:
        ValueError: there are such files, but no note: something else has made them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / NOTE
    with FileLock(folder / f".{NOTE}.lock"):
        there = [path for path in folder.iterdir() if path.suffix == suffix and not path.name.startswith(".")]
        if reuse and note.is_file() and read_json(note) == made_from:
            return {path.name for path in there}
        if there and not note.is_file():
            raise ValueError(
                f"{folder} holds {suffix} files that this command has not made: it needs a folder of its own"
            )
        for path in there:
            path.unlink()
        write_json(note, made_from)
        return set()
