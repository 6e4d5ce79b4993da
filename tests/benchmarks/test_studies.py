"""The studies of a run's labels on a small run: the tables that they write, with the numbers of `getam score`."""

import csv
import importlib
import sys

import pytest
import yaml

from benchmarks import measure
from getam.cli.command import main
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

    def call(name: str, *arguments: object) -> list[dict[str, str]]:
        module = importlib.import_module(f"benchmarks.studies.{name}")
        monkeypatch.setattr(measure, "RESULTS", tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments), "--split", "val", "--name", "small"])
        module.main()
        with (tmp_path / f"{name}-small.csv").open(newline="") as file:
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
