"""From a teacher to its pupils' table on the drawn data: DeepLab v2, GETAM's network on masks, a network of timm."""

import csv
import json
import subprocess

import pytest
import yaml

from getam import load_network
from getam.models.deeplab import DeepLabV2
from tests.helpers.small_workflow import ROOT, snakemake

pytest.importorskip("snakemake")
pytestmark = pytest.mark.slow
TABLE = "results/demo/voc_val_miou.csv"
ENTRIES = {
    "teacher": {"extends": "shapes"},
    "deeplab": {
        "extends": "shapes",
        "taught_by": {"run": "teacher"},
        "network": {"backbone": "deeplab_v2"},
        "training": {
            "steps": 4,
            "scale": [0.5, 1.5],
            "head_factor": 10,
            "bias_factor": 2,
            "split_cross_entropy": False,
        },
        "inference": {"sizes": [33], "fit": "pad"},
    },
    "on_masks": {"extends": "shapes", "taught_by": {"run": "teacher", "labels": "masks"}},
    "of_timm": {"extends": "shapes", "network": {"backbone": {"timm": "vit_tiny_patch16_224"}}},
}


@pytest.fixture
def workflow(tmp_path, small_workflow):
    """A function that makes the table with a copy of the sources, and returns the jobs by their rules."""
    source, folder = tmp_path / "source", tmp_path / "work"
    source.mkdir()
    folder.mkdir()
    parts = ("Snakefile", "workflow", "config", "getam", "csrc", "profiles")
    subprocess.run(["cp", "-r", *(str(ROOT / part) for part in parts), str(source)], check=True)
    small_workflow |= {"shards": 1, "seeds": [0]}
    small_workflow["experiments"] |= ENTRIES
    small_workflow["tables"]["voc_val_miou"] |= {"rows": [{"row": name, "experiment": name} for name in ENTRIES]}

    def run(*options: str, target: str = TABLE) -> list[tuple[str, str]]:
        (folder / "own.yaml").write_text(yaml.safe_dump(small_workflow))
        output = snakemake(folder, "--configfile", "own.yaml", "--cores", 2, *options, "--", target, source=source)
        return jobs(output)

    run.source, run.folder, run.settings = source, folder, small_workflow
    return run


def jobs(output: str) -> list[tuple[str, str]]:
    """(rule, run) of each job, the run empty for a rule that has none."""
    found = []
    for line in output.splitlines():
        words = line.strip().removeprefix("local")
        if words.startswith("rule ") and words.endswith(":"):
            found.append((words[5:-1], ""))
        elif words.startswith("wildcards: ") and "run=" in words:
            found[-1] = (found[-1][0], words.split("run=")[1].split(",")[0])
    return found


def test_from_teacher_to_table(workflow):
    made = workflow()
    assert {("label", "teacher"), ("refine_known_classes", "teacher"), ("train", "deeplab")} <= set(made)
    assert not {("label", "deeplab"), ("label", "of_timm"), ("saliency", "deeplab")} & set(made)
    rows = list(csv.DictReader((workflow.folder / TABLE).read_text().splitlines()))
    assert [row["row"] for row in rows] == list(ENTRIES)
    assert all(float(row["reproduced"]) > 0 and row["seeds"] == "1" for row in rows)
    assert {row["saliency"] for row in rows} == {"border"}
    experiments = workflow.folder / "results/demo/experiments"
    network, _ = load_network(experiments / "deeplab" / "weights.safetensors")
    assert isinstance(network, DeepLabV2)
    described = json.loads((experiments / "deeplab" / "provenance.json").read_text())
    assert (described["taught_by"], described["steps"]) == ("pseudo_labels of teacher", 4)
    assert workflow("--dry-run") == []

    # An edit in a module that is imported by name concerns the runs that use it.
    edited = workflow.source / "getam" / "models" / "deeplab.py"
    before = edited.read_text()
    edited.write_text(before.replace("std=0.01", "std=0.02"))
    assert {run for rule, run in workflow("--dry-run") if rule == "train"} == {"deeplab"}
    edited.write_text(before)

    # Another teacher makes other labels, and trains its pupils again.
    workflow.settings["experiments"]["teacher"]["training"] = {"joint_factor": 1.5}
    planned = {run for rule, run in workflow("--dry-run") if rule == "train"}
    assert planned == {"teacher", "deeplab", "on_masks"}
    pupil = experiments / "on_masks" / "weights.safetensors"
    before = pupil.read_bytes()
    made = workflow(target=pupil.relative_to(workflow.folder).as_posix())
    assert made == [(rule, "teacher") for rule in ("train", "predict", "refine_known_classes")] + [
        ("train", "on_masks")
    ]
    assert pupil.read_bytes() != before
    assert "is set aside" in (workflow.folder / "results/demo/logs/train/on_masks.log").read_text()
