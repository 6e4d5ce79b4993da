"""The formats that docs/reference/files.md and targets.md describe are those that are written."""

import csv
import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from getam.config.experiment_file import load_experiment
from getam.evaluation.metrics import ConfusionMatrix
from getam.evaluation.scores import Score, write_score
from getam.evaluation.tables import Line
from getam.training.launch import train

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def row_of(page: str, start: str) -> list[str]:
    """The words in code in the line of a page that begins so, without the first."""
    line = next(line for line in (REFERENCE / page).read_text().splitlines() if line.startswith(start))
    return re.findall(r"`([^`]+)`", line)


@pytest.mark.filterwarnings("default")
def test_files_of_a_run(small_experiment, tmp_path):
    small_experiment["training"]["epochs"] = 2
    small_experiment["monitoring"]["history"] = 1
    train(load_experiment(small_experiment), tmp_path, "cpu", 0)
    with (tmp_path / "history.csv").open() as file:
        assert row_of("files.md", "| `history.csv`")[2:-1] == next(csv.reader(file))
    assert set(row_of("files.md", "| `provenance.json`")[1:]) == set(
        json.loads((tmp_path / "provenance.json").read_text())
    )
    page = (REFERENCE / "files.md").read_text()
    for path in tmp_path.iterdir():
        assert path.name.startswith(".") or f"`{path.name}" in page, path.name


def test_score_file(tmp_path):
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([0, 1]), np.array([0, 1]))
    write_score(tmp_path, Score(("background", "cat"), matrix))
    names = [line.split(",")[0] for line in (tmp_path / "iou.csv").read_text().splitlines()]
    described = row_of("files.md", "| `<split>/iou.csv`")
    assert names == [described[4], "background", "cat", *described[6:]]


def test_columns_of_a_table():
    page = (REFERENCE / "targets.md").read_text()
    described = re.findall(r"`(\w+)`", page[page.index("Every table has the columns") : page.index("`state` is")])
    assert described == [field.name for field in fields(Line)]
