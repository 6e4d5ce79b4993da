"""The studies of a run's labels on a small run: the tables that they write, with the numbers of `getam score`."""

import csv
import importlib
import re
import shutil
import sys

import pytest
import yaml
from PIL import Image

from benchmarks import measure
from getam.cli.command import main
from getam.data.images import image_size
from getam.evaluation.scores import read_summary
from tests.helpers.small_experiment import small_settings

GROUPS = ("all", "one class", "several classes")


@pytest.fixture(scope="module")
def run(small_shapes, tmp_path_factory):
    """A trained network with masks and pseudo labels of val, and the file of its settings."""
    folder = tmp_path_factory.mktemp("studies")
    settings = small_settings(small_shapes)
    settings["training"]["epochs"], settings["inference"]["sizes"] = 2, [32]
    entries = {
        "small": {key: value for key, value in settings.items() if key != "name"},
        "no_opening": {"extends": "small", "recipe": {"opening": 0}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({"experiments": entries}))
    (folder / "experiment.yaml").write_text(yaml.safe_dump(settings))
    for command in (
        ["train", str(folder / "experiment.yaml"), "--output", str(folder / "small"), "--device", "cpu"],
        *(
            [verb, str(folder / "small"), "--split", "val", "--device", "cpu"]
            for verb in ("predict", "refine", "label")
        ),
        *(
            ["score", str(folder / "small"), "--split", "val", "--what", what]
            for what in ("masks", "masks_without_crf", "pseudo_labels")
        ),
    ):
        assert main(command) == 0, command
    return folder


@pytest.fixture
def study(monkeypatch, tmp_path):
    """Runs a study with arguments and returns the rows of the table that it writes."""

    def call(name: str, *arguments: object, table: str = "") -> list[dict[str, str]]:
        module = importlib.import_module(f"benchmarks.studies.{name}")
        monkeypatch.setattr(measure, "RESULTS", tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments), "--split", "val", "--name", "small"])
        module.main()
        with (tmp_path / f"{table or f'{name}-small'}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return call


def score(run, name: str) -> float:
    return pytest.approx(100 * read_summary(run / "small" / "val" / f"{name}.csv")["mIoU"], abs=0.051)


def test_painting(study, run, tmp_path):
    rows = {row["labels"]: row for row in study("painting", run / "small")}
    assert float(rows["prediction"]["all"]) == score(run, "iou")
    assert float(rows["prediction, without CRF"]["all"]) == score(run, "iou_without_crf")
    assert float(rows["pseudo labels"]["all"]) == score(run, "pseudo_label_iou")
    assert rows["pseudo labels"]["compared with"] == "saliency x the image's first label"
    assert rows["all background"]["images"].startswith("all: 9 ")
    assert float(rows["saliency x the image's first label"]["all"]) > float(rows["all background"]["all"])
    with (tmp_path / "classifier-small.csv").open(newline="") as file:
        assert list(csv.DictReader(file))[-1]["class"] == "mean"


def test_painting_of_two_runs_is_their_mean(study, run, tmp_path):
    shutil.copytree(run / "small", tmp_path / "blind")
    for path in (tmp_path / "blind" / "val" / "masks").glob("*.png"):
        Image.new("P", image_size(path)).save(path)  # background everywhere
    rows = {row["labels"]: row for row in study("painting", run / "small", tmp_path / "blind")}
    own, background = map(float, rows["prediction"]["of each run"].split())
    assert own == score(run, "iou")
    assert background == float(rows["all background"]["all"])
    assert float(rows["prediction"]["all"]) == pytest.approx((own + background) / 2, abs=0.1)
    assert rows["prediction"]["runs"] == "small blind"


def test_label_settings(study, run):
    config = run / "config.yaml"
    own, same, other = study("label_settings", config, run / "small", "--entries", "small", "no_opening")
    assert float(own["all"]) == float(same["all"]) == score(run, "pseudo_label_iou")
    assert [same[f"difference, {group}"] for group in GROUPS] == ["+0.0 [+0.0, +0.0]"] * 3
    assert own["difference, all"] == ""
    assert other["difference, all"] not in ("", same["difference, all"])


def test_run_maps(study, run):
    rows = study("run_maps", run / "small", "--sizes", "32", "--methods", "getam", "cam")
    assert [row["method"] for row in rows] == ["getam", "cam"]
    assert main(["maps", str(run / "small"), "--split", "val", "--device", "cpu"]) == 0
    assert float(rows[0]["all"]) == score(run, "map_iou")


def test_by_class(study, run):
    rows = study("by_class", run / "small")
    assert float(rows[-1]["prediction, all"]) == score(run, "iou_without_crf")
    assert {f"classes known, {group}" for group in GROUPS} < set(rows[0])


def test_label_errors(study, run):
    rows = study("label_errors", run / "small")
    assert [row["images"] for row in rows if row["cause"] == "all"] == list(GROUPS)


def test_rows_are_compared_by_their_counts(study, run, tmp_path, monkeypatch):
    """Two seeds of an entry with the counts of the same masks, one of which lacks some: as scored, and by hand."""
    folder, config = tmp_path / "runs", tmp_path / "config.yaml"
    for name in ("small", "small-seed1", "small_other"):
        shutil.copytree(run / "small", folder / name)
    rows = [
        {"row": "own", "experiment": "small"},
        {"row": "labels", "experiment": "small", "what": "pseudo_labels"},
        {"row": "maps", "experiment": "small", "what": "maps"},
        {"row": "other", "experiment": "small_other"},
        {"row": "difference", "experiment": "small", "minus": "small_other"},
        {"row": "absent", "experiment": "absent"},
    ]
    config.write_text(yaml.safe_dump({"tables": {"table": {"rows": rows}}}))
    for path in (folder / "small_other" / "val" / "masks").glob("*.png"):
        Image.new("P", image_size(path)).save(path)  # background everywhere
    images = study("collect_counts", folder, "--maps", table="counts-small/images")
    assert len(images) == 9

    found = study("compare_rows", config, "--reference", "small", table="tables-small")
    assert [row["row"] for row in found] == ["own", "labels", "maps", "other", "absent"]
    own, labels, maps, other, absent = found
    assert (own["seeds"], own["standard deviation"], own["difference, all"]) == ("2", "0.0", "")
    assert float(own["all"]) == score(run, "iou")
    assert float(labels["all"]) == score(run, "pseudo_label_iou")
    assert main(["maps", str(run / "small"), "--split", "val", "--device", "cpu"]) == 0
    assert float(maps["all"]) == score(run, "map_iou")
    background = {row["labels"]: row for row in study("painting", run / "small")}["all background"]
    assert (other["all"], other["shared seeds"]) == (background["all"], "1")
    difference, low, high = map(float, re.findall(r"[+-][\d.]+", other["difference, all"]))
    assert difference == pytest.approx(float(other["all"]) - float(own["all"]), abs=0.11)
    assert low < difference < high
    assert (absent["state"], absent["all"], absent["seeds"]) == ("not run", "", "0")
