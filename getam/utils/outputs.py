"""Output folders with one file per image, and a note of their inputs, so that an interrupted run can be resumed."""

from pathlib import Path

from getam.utils.files import locked, read_json, write_json

NOTE = "settings.json"
MANIFESTS = "complete-*-of-*.json"


def reusable_outputs(folder: Path, made_from: dict[str, object], suffix: str) -> set[str]:
    """Returns the names of the files that are still valid, because the note equals `made_from`; removes all others.

    With the files go the manifests of their shards.

    The note is written before any file, so that the files of an interrupted run are recognised. Several processes may
    call this at once, as the shards of one job do.

    Args:
        made_from: everything that a file depends on, except its image.
        suffix: of the files.

    Raises:
        ValueError: there are such files but no note, so another program has made them.
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
        for path in (*folder.glob(MANIFESTS), *there):
            path.unlink()
        write_json(note, made_from)
        return set()
