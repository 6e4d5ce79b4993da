"""Folders of files that an interrupted run goes on with: one file an image, and a note of what they were made from."""

from pathlib import Path

from getam.utils.files import locked, read_json, write_json

NOTE = "settings.json"


def reusable_outputs(folder: Path, made_from: dict[str, object], suffix: str) -> set[str]:
    """Names of the files of a folder that may stay, as they were made from the same; all others are removed.

    The note is written first, so that files of an interrupted run are known. Several processes may call this at once,
    as shards of one job do.

    Args:
        made_from: what a file depends on, but for its image.
        suffix: of the files.

    Raises:
        ValueError: there are such files, but no note: something else has made them.
    """
    note = folder / NOTE
    with locked(note):
        there = [path for path in folder.iterdir() if path.suffix == suffix and not path.name.startswith(".")]
        if note.is_file() and read_json(note) == made_from:
            return {path.name for path in there}
        if there and not note.is_file():
            raise ValueError(
                f"{folder} holds {suffix} files that this command has not made: it needs a folder of its own"
            )
        for path in there:
            path.unlink()
        write_json(note, made_from)
        return set()
