"""Snakemake in a process of its own, with this repository's workflow."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def command(*arguments, source=ROOT, python=sys.executable):
    return [str(python), "-m", "snakemake", "--snakefile", str(source / "Snakefile"), *map(str, arguments)]


def environment(source=ROOT, python=sys.executable):
    path = os.pathsep.join([str(Path(python).parent), os.environ["PATH"]])
    # One thread, so that numbers do not depend on how many a job happens to get.
    return {**os.environ, "PATH": path, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}


def snakemake(folder, *arguments, source=ROOT, python=sys.executable, status=0):
    return _output(command(*arguments, source=source, python=python), folder, environment(source, python), status)


def snakemake_of(folder, *arguments):
    """The output of Snakemake with the Snakefile of a folder, which uses this workflow."""
    return _output([sys.executable, "-m", "snakemake", *arguments], folder, environment(), 0)


def _output(asked, folder, variables, status):
    done = subprocess.run(asked, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == status, output
    return output


def small_configuration() -> dict:
    """The demo with few small images and a network that learns nothing in its seconds."""
    demo = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    entry = demo["experiments"]["shapes"]
    entry["network"]["decoder_width"] = 16
    entry["maps"] |= {"dilations": [1, 2], "iterations": 2}
    entry["training"] |= {"crop": 32, "batch": 4, "epochs": 4, "warmup": 0}
    entry["inference"] = {"sizes": [32]}
    entry["monitoring"] = {"history": 4, "sheet": 0, "checkpoint_minutes": 0.001}
    demo["experiments"] = {"shapes": entry}
    demo["datasets"]["shapes"]["options"] = {"side": 32, "train": 24, "val": 9, "test": 5}
    demo["tables"] = {"voc_val_miou": demo["tables"]["voc_val_miou"]}
    demo["seeds"], demo["shards"] = [0, 1], 2
    return demo
