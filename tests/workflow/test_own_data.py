"""From a folder of photographs, a list of their classes and some masks to predicted masks and their score."""

import csv
import re

import numpy as np
import pytest
import yaml

from getam.cli.command import main
from getam.config.experiment_file import load_experiment
from getam.config.validation import check_configuration
from getam.data.dataset import open_dataset
from getam.data.images import read_mask
from tests.helpers.small_workflow import ROOT, snakemake


@pytest.fixture
def own_photographs(tmp_path, small_shapes):
    """The drawn images as somebody's photographs: without lists, with masks of nine of them, in classes of any name."""
    drawn = open_dataset(small_shapes / "dataset")
    rows = []
    for name in ("train", "val"):
        split = drawn.split(name)
        for identity, labels in zip(split.ids, split.labels, strict=True):
            path = tmp_path / "photos" / name / f"No. {identity}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(split.image(identity).read_bytes())
            rows.append((f"{name}/No. {identity}", "|".join(f"my class {c}" for c in np.flatnonzero(labels))))
            if name == "val":
                mask = tmp_path / "masks" / name / f"No. {identity}.png"
                mask.parent.mkdir(parents=True, exist_ok=True)
                mask.write_bytes(split.mask(identity).read_bytes())
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "classes"), *rows])
    return drawn


def test_from_pictures_to_masks(own_photographs, small_experiment, tmp_path, monkeypatch):
    """The commands of docs/how-to/own-data.md."""
    monkeypatch.chdir(tmp_path)
    names = [f"my class {c}" for c in range(len(own_photographs.classes))]
    classes = ["--classes", *names]
    run("prepare", "folder", "photos", "--labels", "labels.csv", "--masks", "masks", *classes, "--output", "mine")
    run("saliency", "mine", "--source", "border", "--splits", "train", "--output", "saliency")
    data = {"dataset": "mine", "split": "train", "saliency": "saliency"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**small_experiment, "data": data}))
    run("train", "own.yaml", "--device", "cpu", "--output", "run")
    run("predict", "run", "--split", "val", "--device", "cpu")
    run("refine", "run", "--split", "val", "--device", "cpu")
    run("score", "run", "--split", "val")
    val = open_dataset("mine").split("val")
    check_masks(val, tmp_path / "run", len(names))
    truth = np.concatenate([read_mask(val.mask(name)).ravel() for name in val.ids])
    found = np.concatenate([read_mask(tmp_path / f"run/val/masks/{name}.png").ravel() for name in val.ids])
    ious = [
        ((truth == c) & (found == c)).sum() / union
        for c in range(len(names) + 1)
        if (union := (((truth == c) | (found == c)) & (truth != 255)).sum())
    ]
    assert float(scores_of(tmp_path / "run")["mIoU"]) == pytest.approx(np.mean(ious), abs=1e-6)


def test_the_page_shows_settings_that_are_valid():
    """Those of the commands and those of the workflow are the same."""
    page = (ROOT / "docs/how-to/own-data.md").read_text()
    alone, own = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    config = {}
    for name in ("config", "recipes", "experiments", "paper"):
        config |= yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())
    archives = yaml.safe_load((ROOT / "config/archives.yaml").read_text())
    overlaid = {key: {**config[key], **value} if isinstance(value, dict) else value for key, value in own.items()}
    check_configuration(config | overlaid, ROOT / "workflow/schemas", archives)
    assert load_experiment(alone) == load_experiment({"name": "mine", **own["experiments"]["mine"]})


def run(*arguments):
    assert main(list(arguments)) == 0, arguments


def check_masks(val, folder, classes):
    for name in val.ids:
        predicted = read_mask(folder / "val/masks" / f"{name}.png")
        assert predicted.shape == read_mask(val.mask(name)).shape
        assert predicted.max() <= classes


def scores_of(folder):
    with (folder / "val/iou.csv").open(newline="") as file:
        return dict(list(csv.reader(file))[1:])


@pytest.mark.slow
def test_by_the_workflow(own_photographs, tmp_path, small_workflow):
    pytest.importorskip("snakemake")
    names = [f"my class {c}" for c in range(len(own_photographs.classes))]
    options = {"labels": "labels.csv", "masks": "masks", "classes": names, "val": 9}
    entry = small_workflow["experiments"]["shapes"]
    entry["data"] = {"dataset": "resources/datasets/mine", "split": "train", "saliency": "resources/saliency/mine"}
    own = {
        **small_workflow,
        "seeds": [0],
        "device": "cpu",
        "datasets": {"mine": {"kind": "folder", "root": "photos", "options": options}},
        "saliency": {"mine": {"dataset": "mine", "source": "border"}},
        "experiments": {"mine": entry},
        "tables": {"voc_val_miou": {"title": "Mine", "rows": [{"row": "mine", "experiment": "mine"}]}},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    target = "results/demo/experiments/mine/val/iou.csv"
    snakemake(tmp_path, "--configfile", "own.yaml", "--cores", 2, "--", target)
    folder = (tmp_path / target).parents[1]
    assert set(scores_of(folder)) >= {"background", "mIoU", *names[:1]}
    val = open_dataset(tmp_path / "resources/datasets/mine").split("val")
    assert len(val) == 9
    check_masks(val, folder, len(names))
    # A list that changes makes everything that follows from it stale.
    assert "Nothing to be done" in snakemake(tmp_path, "--configfile", "own.yaml", "--dry-run", "--", target)
    text = (tmp_path / "labels.csv").read_text().splitlines(keepends=True)
    (tmp_path / "labels.csv").write_text("".join(text[:1] + text[2:]))
    assert "rule prepare" in snakemake(tmp_path, "--configfile", "own.yaml", "--dry-run", "--", target)
