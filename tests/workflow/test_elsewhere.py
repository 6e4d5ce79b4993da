"""The workflow as others find it: in the place of the catalogue, and from a git host, as `snakedeploy` declares it."""

import re
import shutil
import subprocess

import pytest
import yaml

from tests.helpers.small_workflow import ROOT, snakemake, snakemake_of

PARTS = ("Snakefile", "workflow", "config")
TARGET = "results/voc_val_miou/voc_deit.csv"


def planned(output):
    """The rules with their outputs, and the commands, whatever their order."""
    jobs = re.findall(r"^(?:local)?rule (\w+):\n(?:    input: .*\n)?    output: (.*)$", output, re.MULTILINE)
    commands = re.findall(r"^Shell command: (.*)$", output, re.MULTILINE)
    assert len(commands) > 10
    return sorted(jobs), sorted(commands)


@pytest.mark.parametrize("targets", [(), ("results/paper.csv",), ("results/report.html",)])
def test_the_place_of_the_catalogue_is_the_same_workflow(tmp_path, targets):
    words = ("--dry-run", "-p", "--cores", 2)
    front = snakemake(tmp_path, *words, *targets)
    catalogue = snakemake(tmp_path, *words, "--snakefile", ROOT / "workflow" / "Snakefile", *targets)
    assert planned(catalogue) == planned(front)


def test_the_catalogue_is_told_what_is_there():
    told = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    deployment = told["software-stack-deployment"]
    assert deployment == {"conda": False, "apptainer": True, "apptainer+conda": False}
    assert (ROOT / "config" / "README.md").is_file()
    assert not any("conda:" in path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))


DEPLOYED = """
configfile: "config/config.yaml"


module getam:
    snakefile:
        github("reader/getam", path="workflow/Snakefile", tag="v0.2.0")
    config:
        config


use rule * from getam
"""


@pytest.fixture
def hosted(tmp_path, monkeypatch):
    """This workflow as a tag of a repository that git takes for one of the host."""
    repository = tmp_path / "host" / "reader" / "getam"
    repository.mkdir(parents=True)
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, repository / part)
    rewritten = tmp_path / "gitconfig"
    rewritten.write_text(
        f'[url "file://{tmp_path}/host/"]\n\tinsteadOf = https://github.com/\n[user]\n\tname = t\n\temail = t@t\n'
    )
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {"GIT_CONFIG_GLOBAL": rewritten, "HOME": home, "XDG_CACHE_HOME": home / "cache"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all"), ("tag", "v0.2.0")):
        subprocess.run(["git", "-C", str(repository), *words], check=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not there")
def test_deployed_from_a_git_host(tmp_path, hosted):
    """Its copy of config.yaml is edited; everything else comes from the host, through Snakemake's cache."""
    folder = tmp_path / "deployed"
    (folder / "workflow").mkdir(parents=True)
    (folder / "workflow" / "Snakefile").write_text(DEPLOYED)
    shutil.copytree(ROOT / "config", folder / "config")
    settings = folder / "config" / "config.yaml"
    settings.write_text(settings.read_text().replace("batch: 4", "batch: 2"))
    output = snakemake_of(folder, "--dry-run", "-p", "--cores", "2", TARGET)
    assert "--batch 2 " in output
    (registry,) = set(re.findall(r"--registry (\S+)", output))
    assert registry.startswith(str(tmp_path / "home"))
    plain = snakemake(folder, "--dry-run", "-p", "--cores", 2, "--config", "batch=2", "--", TARGET)
    expected = [command.replace(f"{ROOT}/config/archives.yaml", registry) for command in planned(plain)[1]]
    assert planned(output)[1] == sorted(expected)


def test_the_report_is_made_anew_for_every_caption():
    """They are named one by one: the folder of a git host cannot be listed."""
    named = re.search(r"names = \((.*)\)", (ROOT / "workflow" / "helpers" / "report.smk").read_text())[1]
    assert sorted(re.findall(r'"(\w+)"', named)) == sorted(
        path.stem for path in (ROOT / "workflow/report").glob("*.rst")
    )
