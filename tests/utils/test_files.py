"""Files that are written whole or not at all, JSON and CSV."""

import csv
import subprocess
import sys

import pytest

from getam.utils.files import csv_text, read_json, write_json, write_text, written


def test_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "file.txt"
    write_text(path, "first")

    def fail() -> None:
        with written(path) as unfinished:
            unfinished.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "first"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"ü": [1, None]})
    assert read_json(tmp_path / "a.json") == {"ü": [1, None]}
    (tmp_path / "b.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"b\.json is not JSON"):
        read_json(tmp_path / "b.json")
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(ValueError, match=r"c\.json: expected an object, found list"):
        read_json(tmp_path / "c.json")


def test_csv(tmp_path):
    rows = [("id", "classes"), ("a", "tv, large"), ("b", 'say "x"'), ("c", 0.1)]
    text = csv_text(rows)
    assert text.startswith("id,classes\na,")
    assert [tuple(row) for row in csv.reader(text.splitlines())] == [tuple(map(str, row)) for row in rows]
    assert csv_text([]) == ""


def test_full_disk(small_disk):
    """A file that does not fit leaves the old one, nothing half-written, and a message with its name."""
    script = (
        "import pathlib, sys; from getam.utils.files import write_text\n"
        "path = pathlib.Path(sys.argv[1]) / 'a.txt'\n"
        "write_text(path, 'old')\n"
        "before = path.read_bytes()\n"
        "try: write_text(path, 'new' * 1_000_000)\n"
        "except OSError as error: print(error)\n"
        "assert path.read_bytes() == before\n"
        "print(sorted(entry.name for entry in path.parent.iterdir()))\n"
    )
    done = subprocess.run(small_disk(sys.executable, "-c", script), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    error, names = done.stdout.splitlines()
    assert "the disk is full: could not write" in error
    assert "a.txt" in error
    assert names == "['a.txt']"
