"""The profiles for PBS, LSF and Grid Engine, with a stand-in for their commands."""

import json
import os
import sys

import pytest
import yaml

from tests.helpers import batch_system
from tests.helpers.small_workflow import ROOT, snakemake

pytest.importorskip("snakemake_executor_plugin_cluster_generic")
COMMANDS = {
    "pbs": ("qsub", "qstat", "qdel"),
    "lsf": ("bsub", "bjobs", "bkill"),
    "sge": ("qsub", "qstat", "qacct", "qdel"),
}
JOBS = {name: {"threads": 2, "mem_mb": 3000, "runtime": 90} for name in ("train", "predict", "refine")}
# The options of the job `train`: two cores, 3000 MB, 90 minutes, no GPU.
EXPECTED = {
    "pbs": [["-N", "train"], ["-l", "select=1:ncpus=2:mem=3000mb:ngpus=0"], ["-l", "walltime=5400"]],
    "lsf": [["-J", "train"], ["-n", "2"], ["-R", "span[hosts=1] rusage[mem=3000MB]"], ["-W", "90"]],
    "sge": [["-N", "train"], ["-pe", "smp", "2"], ["-l", "mem_free=3000M"], ["-l", "h_rt=5400"]],
}
WEIGHTS = "results/demo/experiments/shapes/weights.safetensors"
ON_A_GPU = {
    "pbs": ["-l", "select=1:ncpus=2:mem=3000mb:ngpus=1"],
    "lsf": ["-gpu", "num=1"],
    "sge": ["-l", "gpu=1"],
}


@pytest.fixture
def cluster(request, tmp_path, monkeypatch):
    """(name of a system, folder of its notes); its commands are on the path."""
    system, state, programs = request.param, tmp_path / "jobs", tmp_path / "bin"
    state.mkdir()
    programs.mkdir()
    for name in COMMANDS[system]:
        program = programs / name
        program.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{batch_system.__file__}" {system} "{state}" {name} "$@"\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return system, state


def submitted(folder, cluster, own, *arguments, **options):
    """The output of Snakemake, and the options of each job that it has submitted."""
    system, state = cluster
    (folder / "own.yaml").write_text(yaml.safe_dump(own))
    words = (
        "--workflow-profile",
        ROOT / "profiles" / system,
        "--latency-wait",
        5,
        "--seconds-between-status-checks",
        1,
    )
    output = snakemake(folder, *words, "--configfile", "own.yaml", *arguments, **options)
    return output, [json.loads(path.read_text()) for path in sorted(state.glob("*.json"))]


def names(jobs):
    return [values[0] for job in jobs for flag, *values in job if flag in ("-N", "-J")]


def settings(small_workflow, device):
    """One training in one phase."""
    entry = small_workflow["experiments"]["shapes"]
    joint_only = {**entry, "training": {**entry["training"], "classification": 0, "epochs": 1}}
    return {**small_workflow, "seeds": [0], "experiments": {"shapes": joint_only}, "jobs": JOBS, "device": device}


@pytest.mark.parametrize("cluster", ["pbs", "lsf", "sge"], indirect=True)
def test_a_job_that_needs_a_gpu_asks_for_it(tmp_path, small_workflow, cluster):
    """The job of a training, which is ended before it does anything."""
    for made in ("resources/datasets/shapes/dataset.json", "resources/saliency/shapes/border/complete-train.json"):
        (tmp_path / made).parent.mkdir(parents=True)
        (tmp_path / made).write_text("{}")
    (cluster[1] / "kill").write_text("train")
    own = settings(small_workflow, "cuda")
    _, jobs = submitted(tmp_path, cluster, own, "--retries", 0, "--", WEIGHTS, status=1)
    (job,) = jobs
    assert ON_A_GPU[cluster[0]] in job


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["pbs", "lsf", "sge"], indirect=True)
def test_every_rule_as_a_job(tmp_path, small_workflow, cluster):
    """One job is killed and submitted again; a forced training trains again in its job, too."""
    own = settings(small_workflow, "cpu")
    (cluster[1] / "kill").write_text("saliency")
    output, jobs = submitted(tmp_path, cluster, own, "--", WEIGHTS)
    assert names(jobs) == ["prepare", "saliency", "saliency", "train"]
    assert "Trying to restart job" in output
    assert [option for option in EXPECTED[cluster[0]] if option not in jobs[-1]] == []
    assert ON_A_GPU[cluster[0]] not in jobs[-1]
    _, jobs = submitted(tmp_path, cluster, own, "--forcerun", "train", "--", WEIGHTS)
    assert names(jobs)[4:] == ["train"]
    assert "is to be trained again" in (tmp_path / "results/demo/logs/train/shapes.log").read_text()
