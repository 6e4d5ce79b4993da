"""`docker stop` and a cluster's wall time: SIGTERM to all processes, some time, then SIGKILL."""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import suppress

import pytest
import yaml

from tests.helpers.small_workflow import ROOT, command, environment

WEIGHTS = "results/demo/experiments/shapes/weights.safetensors"


def test_the_image_passes_signals_on():
    """Its first process is an init that signals the whole group, in the form without a shell."""
    (line,) = re.findall(r"^ENTRYPOINT (.+)$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    words = json.loads(line)
    assert words[0] == "tini"
    assert "-g" in words[: words.index("--")]
    assert words[words.index("--") + 1] == "snakemake"


def long_training(small_workflow):
    """One training of many minutes in one phase, which saves no checkpoint unless it is asked to."""
    entry = small_workflow["experiments"]["shapes"]
    training = {**entry["training"], "epochs": 5000, "classification": 0}
    monitoring = {**entry["monitoring"], "checkpoint_minutes": 1000}
    return {
        **small_workflow,
        "seeds": [0],
        "experiments": {"shapes": {**entry, "training": training, "monitoring": monitoring}},
    }


def wait_for_steps(run, count, process, seconds=150):
    """Until the history shows more than `count` steps."""
    deadline = time.monotonic() + seconds
    while steps(run) <= count:
        assert process.poll() is None, "Snakemake has ended"
        assert time.monotonic() < deadline, "training has not begun"
        time.sleep(0.05)


def steps(run):
    with suppress(FileNotFoundError, ValueError):
        return int((run / "history.csv").read_text().splitlines()[-1].split(",")[0])
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_training_that_is_stopped_saves_its_state(tmp_path, small_workflow, number):
    """This test is the first process of a container: it signals the group, and kills what is left after Snakemake."""
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(long_training(small_workflow)))
    run, log = tmp_path / "results/demo/experiments/shapes", tmp_path / "results/demo/logs/train/shapes.log"
    before = 0
    for _ in range(2):
        with (tmp_path / "output").open("w") as output:
            process = subprocess.Popen(
                command("--cores", 2, "--configfile", "own.yaml", "--", WEIGHTS),
                cwd=tmp_path,
                env=environment(),
                stdout=output,
                stderr=output,
                start_new_session=True,
                # A test run in the background ignores Ctrl-C, and so would its children.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        try:
            wait_for_steps(run, before + 4, process)
            os.killpg(process.pid, number)
            assert process.wait(timeout=60) != 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        said = log.read_text()
        done = int(re.search(r"interrupted after (\d+) of \d+ steps; the same command resumes there", said)[1])
        assert max(int(path.stem) for path in run.glob("checkpoints/[0-9]*.pt")) == done
        assert done > before
        assert (f"resumed after {before} of" in said) == (before > 0)
        before = done
