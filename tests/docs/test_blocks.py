"""Every code block of README and docs is run: Python and YAML here and now, shell with small data (slow).

A block that cannot be run has a comment before it that says why:

    <!-- not run: downloads 5 GB -->

Shell blocks with such a comment are still called with stand-ins (tests/test_documented_commands.py).
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from getam.config.experiment_file import load_experiment
from getam.config.validation import check_configuration
from getam.models.network import build_model
from getam.models.saving import save_network
from tests.helpers.configuration import overlaid, read

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "config/README.md", "csrc/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
TUTORIAL = ROOT / "docs" / "tutorial.md"
OWN = ROOT / "docs" / "how-to" / "own-data.md"
FENCE = re.compile(r"(?:^<!-- not run: ([^\n]*) -->\n)?^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# pycon: examples of docstrings, which test_reference.py runs. Without a word: output and trees of folders.
LANGUAGES = {"python", "yaml", "sh", "pycon", ""}


class Block(NamedTuple):
    page: Path
    number: int
    reason: str | None
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}-{self.number}"


BLOCKS = [
    Block(page, number, reason or None, language, text)
    for page in PAGES
    for number, (reason, language, text) in enumerate(FENCE.findall(page.read_text(encoding="utf-8")), 1)
]


def run_blocks(language: str):
    chosen = [block for block in BLOCKS if block.language == language and block.reason is None]
    if language == "sh":
        chosen = [block for block in chosen if block.page != TUTORIAL]  # its blocks build on one another
    return pytest.mark.parametrize("block", chosen, ids=[block.name for block in chosen])


def test_every_block_is_of_a_kind_that_is_run():
    assert {block.language for block in BLOCKS} <= LANGUAGES
    marks = sum(len(re.findall("^<!-- not run:", page.read_text(encoding="utf-8"), re.M)) for page in PAGES)
    assert marks == sum(block.reason is not None for block in BLOCKS), "a comment `not run` without a block after it"


@run_blocks("python")
def test_python_block(block):
    torch.manual_seed(0)
    exec(compile(block.text, block.name, "exec"), {})


@run_blocks("yaml")
def test_yaml_block(block):
    """Settings of an experiment, or of the workflow over those of config/."""
    settings = yaml.safe_load(block.text)
    if "network" in settings and "data" in settings:
        load_experiment(settings)
        return
    configuration = {}
    for name in ("config", "recipes", "experiments", "paper", *(["demo"] if block.page == TUTORIAL else [])):
        overlaid(configuration, read(f"{name}.yaml"))
    check_configuration(overlaid(configuration, settings), ROOT / "workflow" / "schemas", read("archives.yaml"))


def test_settings_for_own_photographs_are_those_that_were_tried():
    """The page's network is that of six classes (docs/results/voc6.md), on the page's data."""
    tried = read("voc6.yaml")["recipes"]["photographs"]
    tried["recipe"]["preset"] = "paper"
    alone, workflow = (yaml.safe_load(block.text) for block in BLOCKS if block.page == OWN and block.language == "yaml")
    for settings in (alone, workflow["experiments"]["mine"]):
        for section in ("recipe", "training", "inference"):
            assert settings[section] == tried[section]
        assert settings["network"] == {key: value for key, value in tried["network"].items() if key != "pretrained"}


@pytest.fixture
def checkout(tmp_path, small_experiment):
    """A checkout with the files that the pages name: an experiment, a photograph, a network, probabilities."""
    for name in ("Snakefile", "config", "workflow", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, module in (("getam", "getam"), ("snakemake", "snakemake"), ("python", "")):
        call = f"{sys.executable} {'-m ' + module if module else ''}"
        (programs / name).write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        (programs / name).chmod(0o755 | stat.S_IEXEC)
    small_experiment["training"] |= {"epochs": 2, "warmup": 0}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(small_experiment))
    photograph = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(photograph).save(tmp_path / "photo.jpg")
    arguments = {"backbone": "vit_micro_hybrid", "classifier": "class_token", "decoder_width": 16}
    network = build_model(num_classes=2, **arguments)
    save_network(
        tmp_path / "results" / "experiments" / "voc" / "weights.safetensors", network, ["cat", "dog"], {}, **arguments
    )
    for name in ("PROBABILITIES", "IMAGES"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "PROBABILITIES" / "a.npy", np.full((2, 48, 64), 0.5, np.float32))
    Image.fromarray(photograph).save(tmp_path / "IMAGES" / "a.png")
    return tmp_path


def run(text: str, checkout: Path) -> None:
    """Runs a block as a reader would in a checkout.

    Raises:
        AssertionError: it fails.
    """
    path = os.pathsep.join([str(checkout / ".venv" / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=checkout,
        env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "csrc")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\nMake it run, or say before it: <!-- not run: REASON -->"


@pytest.mark.slow
@run_blocks("sh")
def test_shell_block(block, checkout):
    run(block.text, checkout)


@pytest.mark.slow
def test_tutorial(checkout, small_workflow):
    """All its blocks in their order, with few small images; the settings that it changes are written as it says."""
    (checkout / "config").unlink()
    shutil.copytree(ROOT / "config", checkout / "config")
    (checkout / "config" / "demo.yaml").write_text(yaml.safe_dump({**small_workflow, "seeds": [0], "shards": 1}))
    for block in BLOCKS:
        if block.page == TUTORIAL and block.reason is None:
            if block.language == "yaml":
                (checkout / "own.yaml").write_text(block.text)
            elif block.language == "sh":
                run(block.text, checkout)
    rows = (checkout / "results" / "demo" / "voc_val_miou.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["row", "GETAM", "Grad-CAM"]
    assert len(list((checkout / "results" / "demo" / "first_phases").iterdir())) == 1
    assert list((checkout / "explained").glob("test_00000-*.png"))
