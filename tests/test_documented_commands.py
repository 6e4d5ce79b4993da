"""The shell blocks of README and docs, run as they are written: bash runs them, and what they call is checked.

Programs are stand-ins that note how they were called, and where. Then `snakemake` is called with the same arguments
for a dry run, arguments of `getam` are parsed, targets of `make` must exist, and what `docker run` and `apptainer` pass
on is treated in the same way.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from getam.cli.command import parse
from tests.helpers.small_workflow import environment

pytest.importorskip("snakemake")
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "config" / "README.md"]
BLOCK = re.compile(r"^```(?:sh|bash|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAMS = (
    "snakemake",
    "getam",
    "make",
    "docker",
    "podman",
    "apptainer",
    "torchrun",
    "python",
    "python3",
    "pip",
    "nvidia-smi",
    "git",
    "snakedeploy",
    "kubectl",
    "qsub",
    "module",
    "conda",
    "apt-get",
    "head",
    "cat",
)
STANDIN = """#!{python}
import json, os, sys
with open({calls!r}, "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), os.getcwd(), sys.argv[1:]]) + "\\n")
"""
# Words that stand for something of the reader's.
EXAMPLES = {
    "TARGET": "results/voc_val_miou.csv",
    "RUN": "voc_deit",
    "URL": "https://example.org/cpu",
}


def blocks():
    for page in PAGES:
        for number, text in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1):
            yield pytest.param(page, text, id=f"{page.relative_to(ROOT)}-{number}")


@pytest.fixture
def checkout(tmp_path):
    """A copy of the repository, in which stand-ins note their calls."""
    folder = tmp_path / "getam"
    folder.mkdir()
    parts = ("Snakefile", "Makefile", "workflow", "config", "profiles", "getam", "csrc", "docker", "envs", "benchmarks")
    subprocess.run(["cp", "-r", *(str(ROOT / part) for part in parts), str(folder)], check=True)
    (folder / "own.yaml").write_text("seeds: [0]\n")
    weights = folder / "resources" / "weights" / "vit_tiny_patch16_224.safetensors"  # placed by hand
    weights.parent.mkdir(parents=True)
    weights.touch()
    calls = tmp_path / "calls"
    calls.touch()
    for place in (tmp_path / "bin", folder / ".venv" / "bin"):
        place.mkdir(parents=True)
        for program in PROGRAMS:
            (place / program).write_text(STANDIN.format(python=sys.executable, calls=str(calls)))
            (place / program).chmod(0o755)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("page", "text"), list(blocks()))
def test_block(page, text, checkout):
    text = re.sub(r"\b(" + "|".join(EXAMPLES) + r")\b", lambda match: EXAMPLES[match[0]], text)
    path = os.pathsep.join([str(checkout.parent / "bin"), "/usr/bin", "/bin"])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=checkout,
        env={"PATH": path, "HOME": str(checkout.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for line in (checkout.parent / "calls").read_text().splitlines():
        program, folder, arguments = json.loads(line)
        check(program, Path(folder), arguments, checkout)


def check(program: str, folder: Path, arguments: list[str], checkout: Path) -> None:
    if program == "getam":
        check_getam(arguments)
    elif program == "snakemake":
        dry_run(folder, arguments)
    elif program == "make":
        targets = [argument for argument in arguments if re.fullmatch(r"[a-z]+", argument)]
        assert all(re.search(rf"^{target}:", (checkout / "Makefile").read_text(), re.MULTILINE) for target in targets)
    elif program in ("docker", "podman") and arguments[0] == "run":
        in_the_image(folder, arguments, checkout)
    elif program == "apptainer" and arguments[0] in ("run", "exec"):
        inner = arguments[next(i for i, word in enumerate(arguments) if word.endswith(".sif")) + 1 :]
        if arguments[0] == "run":
            dry_run(folder, ["--snakefile", str(checkout / "Snakefile"), *inner])
        else:
            check(inner[0], folder, inner[1:], checkout)
    elif program == "torchrun":
        assert arguments[arguments.index("-m") + 1] == "getam.cli"
        check_getam(arguments[arguments.index("-m") + 2 :])


def check_getam(arguments: list[str]) -> None:
    if "--help" in arguments:
        arguments = [argument for argument in arguments if argument != "--help"]
    if arguments and "..." not in arguments:
        parse(arguments)


def in_the_image(folder: Path, arguments: list[str], checkout: Path) -> None:
    """The image's entry point is snakemake with the workflow in /opt/getam."""
    if "--entrypoint" in arguments:
        return
    inner = arguments[arguments.index("getam") + 1 :]
    dry_run(folder, ["--snakefile", "/opt/getam/Snakefile", *inner], image=checkout)


def with_apptainer(folder: Path) -> dict[str, str]:
    """The environment of a dry run: with --sdm apptainer Snakemake asks for its version first."""
    program = folder / "bin" / "apptainer"
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\necho apptainer version 1.4.5\n")
    program.chmod(0o755)
    variables = environment()
    return {**variables, "PATH": os.pathsep.join([str(program.parent), variables["PATH"]])}


def dry_run(folder: Path, arguments: list[str], image: Path | None = None) -> None:
    if "--allowed-rules" in arguments:  # for a folder in which the other rules have run
        names = arguments[arguments.index("--allowed-rules") + 1 : arguments.index("--")]
        rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").iterdir())
        assert all(re.search(rf"^rule {name}:", rules, re.MULTILINE) for name in names)
        return
    if image is not None:
        arguments = [argument.replace("/opt/getam", str(image)) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--quiet", "rules", "--dry-run", *arguments],
        cwd=folder,
        env=with_apptainer(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"snakemake {shlex.join(arguments)}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_targets_after_configfile_are_set_apart(page):
    # `--configfile` and `--config` take all words up to the next option, targets too.
    for command in re.findall(
        r"`([^`\n]*--config(?:file)? [^`\n]*)`|^(.*--config(?:file)? .*)$", page.read_text(), re.M
    ):
        words = "".join(command).split("--config", 1)[1].split("#")[0]
        assert not re.search(r"\bTARGET\b|results/", words) or " -- " in words, command
