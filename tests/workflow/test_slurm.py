"""The workflow as jobs of a real SLURM, where one is running."""

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

from tests.helpers.small_workflow import ROOT, snakemake

pytestmark = pytest.mark.slow
# A cluster of one node without accounting.
CLUSTER = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "7", "--latency-wait", "5")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    there = shutil.which("sinfo") and subprocess.run(["sinfo"], capture_output=True).returncode == 0
    if not there:
        if os.environ.get("GETAM_REQUIRE_SLURM"):
            pytest.fail("GETAM_REQUIRE_SLURM is set, and no SLURM answers")
        pytest.skip("no SLURM is running")


def submitted(folder, small_workflow, *arguments):
    (folder / "own.yaml").write_text(yaml.safe_dump(small_workflow))
    profile = ROOT / "profiles" / "slurm"
    return snakemake(folder, "--configfile", "own.yaml", "--workflow-profile", profile, *CLUSTER, *arguments)


def jobs_of(output):
    """Rules of the jobs that were submitted."""
    return re.findall(r"Job \d+ has been submitted with SLURM jobid \d+ \(log: \S*?/rule_(\w+)/", output)


def test_every_rule_as_a_job(tmp_path, small_workflow):
    own = {**small_workflow, "seeds": [0], "jobs": dict.fromkeys(("train", "predict", "refine"), SMALL)}
    output = submitted(tmp_path, own, "--config", "shards=2")
    expected = ["label", "predict", "prepare", "refine", "saliency", "score", "train", "train_first_phase"]
    assert sorted(set(jobs_of(output))) == expected
    assert jobs_of(output).count("predict") == jobs_of(output).count("refine") == 2
    local = tmp_path / "local"
    local.mkdir()
    (local / "own.yaml").write_text(yaml.safe_dump(own))
    snakemake(local, "--cores", 2, "--configfile", "own.yaml", "--config", "shards=2")
    table = "results/demo/voc_val_miou.csv"
    assert (tmp_path / table).read_bytes() == (local / table).read_bytes()


SMALL = {"threads": 1, "mem_mb": 3000, "runtime": 5}


def epochs_of(seconds, folder, own):
    """How many epochs this machine trains in so many seconds, found by a short training."""
    folder.mkdir()
    epochs = own["experiments"]["shapes"]["training"]["epochs"]
    (folder / "own.yaml").write_text(yaml.safe_dump(own))
    snakemake(folder, "--cores", 1, "--configfile", "own.yaml", "--", WEIGHTS)
    made = json.loads((folder / WEIGHTS).with_name("provenance.json").read_text())
    return int(epochs * seconds / made["seconds_of_the_last_session"])


WEIGHTS = "results/demo/experiments/shapes/weights.safetensors"


def test_a_job_that_its_wall_time_ends_is_resumed(tmp_path, small_workflow):
    entry = small_workflow["experiments"]["shapes"]
    monitoring = {**entry["monitoring"], "checkpoint_minutes": 0.05}
    jobs = {"train": {**SMALL, "runtime": 1}, "predict": SMALL, "refine": SMALL}

    def workflow(epochs):
        training = {**entry["training"], "epochs": epochs, "classification": 0}
        long = {**entry, "training": training, "monitoring": monitoring}
        return {**small_workflow, "seeds": [0], "experiments": {"shapes": long}, "jobs": jobs}

    # Each attempt has one minute, of which the start takes some seconds.
    epochs = epochs_of(120, tmp_path / "measured", workflow(40))
    output = submitted(tmp_path, workflow(epochs), WEIGHTS, "--retries", "9")
    assert (tmp_path / WEIGHTS).is_file()
    assert jobs_of(output).count("train") > 1
    logs = [tmp_path / "results/demo/logs/train/shapes.log"]
    logs += tmp_path.glob(".snakemake/slurm_logs/rule_train/**/*.log")
    assert any(re.search(r"resumed after \d+ of \d+ steps", log.read_text()) for log in logs)
