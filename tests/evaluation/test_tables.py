"""Lines of a table: mean, spread, difference, and the verdict."""

import subprocess
import sys
from pathlib import Path

import pytest

from getam.config.tables import Row
from getam.evaluation.tables import table_line


def write(experiments: Path, run: str, miou: float, split: str = "val", name: str = "iou") -> None:
    path = experiments / run / split / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    summary = f"mIoU,{miou}\nfrequency weighted IoU,0.7\npixel accuracy,0.8\nlabelled,1.0\n"
    path.write_text(f"class,iou\nbackground,0.9\n{summary}")


@pytest.mark.parametrize(
    ("miou", "paper", "tolerance", "state"),
    [
        (0.718, 71.0, 1.0, "reproduced"),
        (0.721, 71.0, 1.0, "differs"),
        (0.699, 71.0, 1.0, "differs"),
        (0.367, 36.4, 0.3, "reproduced"),  # 36.7 - 36.4 is above 0.3 in binary
        (0.361, 36.4, 0.3, "reproduced"),
        (0.36701, 36.4, 0.3, "reproduced"),  # the table shows 0.3
        (0.36706, 36.4, 0.3, "differs"),  # the table shows 0.31
        (0.718, None, None, "measured, nothing published"),
    ],
)
def test_verdict(tmp_path, miou, paper, tolerance, state):
    write(tmp_path, "a", miou)
    line = table_line(tmp_path, Row("r", experiment="a", paper=paper, tolerance=tolerance), ["a"])
    assert line.state == state
    assert line.reproduced == pytest.approx(100 * miou)
    assert (line.spread, line.seeds, line.experiment) == (None, 1, "a")
    assert line.difference == (None if paper is None else pytest.approx(100 * miou - paper))


def test_a_tolerance_without_a_published_number_is_not_shown(tmp_path):
    write(tmp_path, "a", 0.5)
    assert table_line(tmp_path, Row("r", experiment="a", tolerance=1.0), ["a"]).tolerance is None


def test_spread_and_differences_seed_by_seed(tmp_path):
    for run, miou in {"a": 0.5, "a-seed1": 0.6, "b": 0.3, "b-seed1": 0.1}.items():
        write(tmp_path, run, miou, "train_aug", "map_iou")
    row = Row("r", experiment="a", minus="b", split="train_aug", what="maps", paper=30.0, tolerance=6.0)
    line = table_line(tmp_path, row, ["a", "a-seed1"], ["b", "b-seed1"])
    assert (line.reproduced, line.difference) == (pytest.approx(35), pytest.approx(5))
    assert line.spread == pytest.approx(15 * 2**0.5)  # of 20 and 50
    assert (line.experiment, line.seeds, line.state) == ("a - b", 2, "reproduced")
    with pytest.raises(ValueError, match="shorter"):
        table_line(tmp_path, row, ["a", "a-seed1"], ["b"])


def test_rows_without_a_run():
    server = table_line(Path("nowhere"), Row("r", paper=72.3, tolerance=1.0, submission="a"), [])
    assert (server.reproduced, server.difference, server.tolerance, server.seeds) == (None, None, None, None)
    assert server.state == "not reproducible: only the evaluation server can score voc_test/a.tar.gz"
    assert server.experiment == "a"
    assert table_line(Path("nowhere"), Row("r", paper=64.7, state="not run: no network"), []).state == (
        "not run: no network"
    )


def test_a_score_that_is_missing_or_incomplete_is_named(tmp_path):
    row = Row("r", experiment="a")
    with pytest.raises(FileNotFoundError, match="a/val/iou.csv"):
        table_line(tmp_path, row, ["a"])
    write(tmp_path, "a", 0.5)
    (tmp_path / "a" / "val" / "iou.csv").write_text("class,iou\nbackground,0.9\n")
    with pytest.raises(ValueError, match="iou.csv: no line 'mIoU'"):
        table_line(tmp_path, row, ["a"])


def test_neither_torch_nor_pandas_is_imported():
    code = "import sys, getam.evaluation.tables; print({'torch', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
