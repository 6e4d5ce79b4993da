"""The state of runs, from their files."""

import json
import os
import time

import pytest
import yaml
from filelock import FileLock

from getam.cli.command import main
from getam.config.experiment_file import load_experiment
from getam.config.first_phase import first_phase_of
from getam.evaluation import status
from getam.evaluation.run import Run
from getam.evaluation.status import statuses
from getam.training.history import COLUMNS
from getam.training.launch import identity_of, train, train_first_phase


@pytest.fixture
def results(tmp_path, small_experiment):
    """Two runs of which nothing is trained, `a` and `b`."""
    for name in ("a", "b"):
        folder = tmp_path / "experiments" / name
        folder.mkdir(parents=True)
        (folder / "experiment.yaml").write_text(yaml.safe_dump({**small_experiment, "name": name}))
    return tmp_path


def row(step: int, phase: str, speed: float = 8.0) -> str:
    values = {"step": step, "epoch": 1, "phase": phase, "rate": 1e-3, "total": 0.5, "images_per_second": speed}
    return ",".join(str(values.get(column, "")) for column in COLUMNS) + "\n"


def only(results, name="a", **options):
    return next(found for found in statuses(results, **options) if found[0].name == name)


def test_an_unfinished_training(results):
    assert only(results)[0].state == "not begun"
    folder = results / "experiments" / "a"
    # 24 images in batches of 4, 4 epochs: 24 steps, 12 of them in the first phase.
    (folder / "history.csv").write_text(",".join(COLUMNS) + "\n" + row(5, "classification") + row(10, "classification"))
    (folder / ".training.lock").touch()
    found = only(results)[0]
    assert (found.state, found.steps, found.total, found.phase, found.loss) == (
        "stopped",
        10,
        24,
        "classification",
        0.5,
    )
    assert found.seconds_left is None
    with FileLock(folder / ".training.lock"):
        found = only(results)[0]
        assert found.state == "running"
        assert found.at_least
        assert found.seconds_left == pytest.approx(14 / (8 / 4), abs=1)  # 14 steps, two a second
        with (folder / "history.csv").open("a") as file:
            file.write(row(20, "joint", 2.0) + "22,1,joi")  # the last row is being written
        found = only(results)[0]
        assert (found.steps, found.phase, found.at_least) == (20, "joint", False)
        assert found.seconds_left == pytest.approx(4 / (2 / 4), abs=1)
    assert only(results, "b")[0].state == "not begun"


@pytest.mark.filterwarnings("default")
def test_finished_trainings_and_why_they_are_stale(results, small_experiment, monkeypatch):
    small_experiment["training"]["epochs"] = 2
    experiment = load_experiment({**small_experiment, "name": "a"})
    phase = results / "first_phases" / "x-seed0"
    train_first_phase(experiment, phase, "cpu", 0)
    folder = results / "experiments" / "a"
    train(experiment, folder, "cpu", 0, phase)
    made = json.loads((folder / "provenance.json").read_text())
    assert first_phase_of(experiment) is not None
    for name, steps in (("x-seed0", 6), ("a", 12)):
        found = only(results, name, identity=identity_of)[0]
        assert (found.state, found.steps, found.total, found.stale) == ("finished", steps, steps, [])
    assert made["steps"] == status._steps(experiment, 24) == 12

    settings = yaml.safe_load((folder / "experiment.yaml").read_text())
    settings["training"]["rate"] = 5e-4
    (folder / "experiment.yaml").write_text(yaml.safe_dump(settings))
    assert only(results)[0].stale == ["settings"]
    monkeypatch.setattr(status.provenance, "step_digest", lambda *names: "other")
    assert only(results)[0].stale == ["settings", "code"]
    of_training = experiment.data.saliency / f"{Run(folder).dataset.split('train').ids[0]}.png"
    before = of_training.read_bytes()
    of_training.write_bytes(before + b"x")
    try:
        assert only(results, identity=identity_of)[0].stale == ["settings", "data (saliency)", "code"]
        of_training.unlink()
        assert only(results, identity=identity_of)[0].stale == ["data (a file is missing)"]
        assert only(results)[0].stale == ["settings", "code"]
    finally:
        of_training.write_bytes(before)


def test_outputs_of_a_split(results):
    run = Run(results / "experiments" / "a")
    (run.folder / "weights.safetensors").write_bytes(b"weights")
    folder = run.folder / "val" / "probabilities"
    folder.mkdir(parents=True)
    code = status.provenance.step_digest("getam.evaluation.prediction", "getam.models.saving")
    note = {"weights": run._weights_digest, "settings": run.experiment.digest("inference"), "code": code}
    (folder / "settings.json").write_text(json.dumps(note))
    now = time.time()
    for i, name in enumerate(run.dataset.split("val").ids[:5]):
        (folder / f"{name}.npz").touch()
        os.utime(folder / f"{name}.npz", (now - 10 * (5 - i), now - 10 * (5 - i)))
    (found,) = only(results)[1]
    assert (found.split, found.kind, found.done, found.total, found.complete) == ("val", "probabilities", 5, 9, False)
    assert found.seconds_left == pytest.approx(40)  # four files, ten seconds each
    assert found.stale == []
    (folder / "complete-1-of-2.json").write_text("{}")
    assert not only(results)[1][0].complete
    (folder / "complete-2-of-2.json").write_text("{}")
    assert only(results)[1][0].complete
    (run.folder / "weights.safetensors").write_bytes(b"other weights")
    assert only(results)[1][0].stale == ["weights"]
    (folder / "settings.json").write_text(json.dumps({**note, "code": "old"}))
    assert only(results)[1][0].stale == ["weights", "code"]


def test_the_command(results, tmp_path, capsys):
    (results / "experiments" / "b" / "experiment.yaml").write_text("name: b\nold: 1\n")
    assert main(["status", str(results)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["a", "not", "begun", "0", "of", "24", "steps"]
    assert second.startswith("b ")
    assert "wrong" in second
    assert "old" in second
    assert main(["status", str(tmp_path / "nothing")]) == 1
    assert "holds no runs" in capsys.readouterr().err
