"""The rehearsal of size: generated archives have the true numbers, and go through the commands."""

import csv
import json
import os
import sys
from fractions import Fraction

import pytest

from benchmarks.scale import rehearsal
from benchmarks.scale.archives import coco_images, voc_ids, write_archives
from benchmarks.scale.measuring import count_files, measure
from benchmarks.scale.steps import CONFIGURATION, VOC_TRAIN, VOC_VAL, configuration, steps
from getam.data import coco, voc
from getam.data.archives.unpacking import unpack
from getam.data.inspection import check_split
from getam.data.sbd import train_aug_ids
from tests.helpers.small_workflow import snakemake

ARCHIVES = ["voc2012_trainval", "sbd", "coco2014_train", "coco2014_val", "coco2014_annotations"]


def test_the_whole_scale_has_the_published_numbers():
    ids = voc_ids(Fraction(1))
    train, val = ids["train"] + ids["train+sbd"], ids["val"] + ids["val+sbd"]
    sbd = ids["train+sbd"] + ids["val+sbd"] + ids["sbd"]
    assert len(sbd) == 11355
    assert sum(map(len, ids.values())) == 17125
    counts = {"train": len(train), "val": len(val), "train_aug": len(train_aug_ids(train, val, sbd))}
    assert counts == {split: voc.COUNTS[split] for split in counts}
    assert (counts["train_aug"], counts["val"]) == (VOC_TRAIN, VOC_VAL)
    for split, expected in coco.COUNTS.items():
        templates = [template for _, _, template in coco_images(split, Fraction(1))]
        assert (len(templates) - templates.count(None), templates.count(None)) == expected


def test_archives_become_data_sets(tmp_path):
    archives = write_archives(tmp_path / "archives", Fraction(1, 2000))
    for name, into in (("voc2012_trainval", "voc"), ("sbd", "sbd")):
        unpack(archives[name], tmp_path / into)
    for name in ("coco2014_train", "coco2014_val", "coco2014_annotations"):
        unpack(archives[name], tmp_path / "coco")
    sbd = tmp_path / "sbd" / "benchmark_RELEASE" / "dataset"
    made = voc.prepare(tmp_path / "voc" / "VOCdevkit" / "VOC2012", tmp_path / "made_voc", sbd, subset=True)
    for dataset in (made, coco.prepare(tmp_path / "coco", tmp_path / "made_coco", subset=True)):
        for split in dataset.splits:
            facts = check_split(dataset, split)
            assert facts.images > 0
            assert facts.problems == []
            assert facts.only_masks == 0
    annotations = tmp_path / "coco" / "annotations" / "instances_train2014.json"
    content = json.loads(annotations.read_bytes())
    assert 450 < annotations.stat().st_size / len(content["annotations"]) < 650  # COCO's have 530 bytes
    assert any(annotation["iscrowd"] for annotation in content["annotations"])


def test_measure_counts_child_processes(tmp_path):
    child = "x = b'1' * 200_000_000; import time; end = time.process_time() + 1\nwhile time.process_time() < end: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    found = measure([sys.executable, "-c", parent], tmp_path, dict(os.environ), tmp_path / "log")
    assert 180 < found.largest_mib <= found.memory_mib + 50 < 500
    assert 0.5 < found.cpu_seconds <= found.seconds
    with pytest.raises(SystemExit, match="failed"):
        measure([sys.executable, "-c", "print('no'); exit(3)"], tmp_path, dict(os.environ), tmp_path / "log")
    assert (tmp_path / "log").read_text() == "no\n"


def test_count_files(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/1", "a/b/2", "3"):
        (tmp_path / name).touch()
    assert count_files([tmp_path / "a", tmp_path / "3", tmp_path / "none"]) == 3


def test_the_workflow_accepts_the_configuration(tmp_path):
    """A dry run in an empty folder: the targets lead back to both data sets and their own networks."""
    (tmp_path / CONFIGURATION).write_text(json.dumps(configuration()))
    words = [step.command for step in steps(dict.fromkeys(ARCHIVES, tmp_path), True) if "snakemake" in step.command]
    targets = [target for command in words for target in command[command.index("--") + 1 :]]
    output = snakemake(tmp_path, "--dry-run", "--configfile", CONFIGURATION, "--", *dict.fromkeys(targets))
    jobs = dict(line.split() for line in output.splitlines() if len(line.split()) == 2 and line.split()[1].isdecimal())
    assert jobs["train"] == jobs["predict"] == "2"
    assert jobs["prepare"] == "4"  # val, and the images that are trained on
    assert jobs["label"] == jobs["report"] == "1"
    assert "fetch" not in jobs


@pytest.mark.slow
def test_the_rehearsal_and_its_resumption(tmp_path, monkeypatch):
    """VOC alone: COCO's steps differ in what the tests above check."""
    monkeypatch.setattr(rehearsal, "steps", lambda *a, **k: [step for step in steps(*a, **k) if step.data == "voc"])
    scale = Fraction(1, 2000)
    *_, rows = rehearsal.rehearse(tmp_path, scale)
    assert all(int(row["files"]) > 0 for row in rows if row["step"] not in ("check", "nothing to be done"))
    assert "Nothing to be done" in (tmp_path / "logs" / "voc_nothing_to_be_done.log").read_text()
    # The single commands have left what the workflow would have made: it adds tables and pictures alone.
    log = (tmp_path / "logs" / "voc_table_and_report.log").read_text()
    assert "rule report:" in log
    assert not any(f"rule {rule}:" in log for rule in ("prepare", "saliency", "train", "predict", "refine", "score"))
    table = list(csv.DictReader((tmp_path / "results" / "voc_val_miou.csv").read_text().splitlines()))
    assert [row["row"] for row in table] == ["masks", "without CRF"]
    monkeypatch.setattr(rehearsal, "measure", lambda *_: pytest.fail("a finished step is repeated"))
    assert all(again == rows for again in rehearsal.rehearse(tmp_path, scale))
