"""A first phase trained alone, and runs that continue from it: the same bits as a training of both phases."""

import json

import pytest

from getam import load_experiment
from getam.cli.command import main
from getam.config.first_phase import FIRST_PHASE, first_phase_name, first_phase_of
from getam.models.weights import CheckpointError
from getam.training.launch import train, train_first_phase
from getam.utils.signals import Interrupted
from tests.training.test_training import FIRST_JOINT, STEPS, assert_same_weights, history, interrupt_at


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Folder of the first phase; filled by the first test that asks."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def first_phase(shared, small_experiment):
    train_first_phase(load_experiment(small_experiment), shared, workers=0)
    return shared


# The paper's weight standardisation, which the other recipe of these tests has.
RELEASED = {"preset": "released", "opening": 3, "weight_standardisation": "paper"}
SHARING = [
    {},
    {"maps.method": "cam"},
    {"maps.start_layer": 0, "recipe": RELEASED, "data.saliency": None},
    {"training.dense_energy.weight": 0, "training.joint_factor": 0.5},
]


@pytest.mark.parametrize("other", SHARING, ids=str)
def test_a_shared_first_phase_gives_the_same_weights(first_phase, small_experiment, tmp_path, other):
    experiment = load_experiment(small_experiment, other)
    train(experiment, tmp_path / "alone", workers=0)
    train(experiment, tmp_path / "shared", workers=0, first_phase=first_phase)
    assert_same_weights(tmp_path / "alone", tmp_path / "shared")
    assert history(tmp_path / "alone") == history(tmp_path / "shared")
    described = json.loads((tmp_path / "shared" / "provenance.json").read_text())
    assert described["steps"] == STEPS
    assert described["first_phase"]["steps"] == FIRST_JOINT


def test_its_files(first_phase, small_experiment, caplog):
    files = {path.name for path in first_phase.iterdir()}
    assert files == {
        ".training.lock",
        "experiment.yaml",
        "finished",
        FIRST_PHASE,
        "history.csv",
        "provenance.json",
        "tensorboard",
    }
    assert [row["step"] for row in history(first_phase)] == ["5", "10", "12"]
    with caplog.at_level("INFO"):
        train_first_phase(load_experiment(small_experiment, {"maps.fusion": "product"}), first_phase, workers=0)
    assert "is there already" in caplog.text
    (first_phase / FIRST_PHASE).unlink()
    train_first_phase(load_experiment(small_experiment), first_phase, workers=0)
    assert (first_phase / FIRST_PHASE).is_file()


@pytest.mark.parametrize("step", [3, FIRST_JOINT - 2])
def test_interrupted_in_either_phase(first_phase, small_experiment, tmp_path, monkeypatch, step):
    experiment = load_experiment(small_experiment)
    phase, run = tmp_path / "phase", tmp_path / "run"
    for make in (
        lambda: train_first_phase(experiment, phase, workers=0),
        lambda: train(experiment, run, workers=0, first_phase=phase),
    ):
        with monkeypatch.context() as patch:
            interrupt_at(patch, step)
            with pytest.raises(Interrupted):
                make()
        make()
    assert (phase / FIRST_PHASE).read_bytes() == (first_phase / FIRST_PHASE).read_bytes()
    train(experiment, tmp_path / "alone", workers=0)
    assert_same_weights(tmp_path / "alone", run)
    assert history(tmp_path / "alone") == history(run)


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"training.rate": 2e-3},
        {"training.classification": 0.6},
        {"network.decoder_width": 32},
        {"data.split": "val", "training.epochs": 12},
    ],
    ids=str,
)
def test_that_of_another_experiment_is_refused(first_phase, small_experiment, tmp_path, changed):
    with pytest.raises(CheckpointError, match=rf"{FIRST_PHASE} was made with other .*settings"):
        train(load_experiment(small_experiment, changed), tmp_path / "run", workers=0, first_phase=first_phase)
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_damaged_or_missing(first_phase, small_experiment, tmp_path):
    experiment = load_experiment(small_experiment)
    with pytest.raises(FileNotFoundError, match=FIRST_PHASE):
        train(experiment, tmp_path / "run", workers=0, first_phase=tmp_path)
    content = bytearray((first_phase / FIRST_PHASE).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / FIRST_PHASE).write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        train(experiment, tmp_path / "run", workers=0, first_phase=tmp_path)
    (tmp_path / FIRST_PHASE).write_bytes((first_phase / FIRST_PHASE).read_bytes())
    with pytest.raises(FileNotFoundError, match=r"provenance\.json"):
        train(experiment, tmp_path / "run", workers=0, first_phase=tmp_path)


def test_without_a_first_phase(first_phase, small_experiment, tmp_path):
    experiment = load_experiment(small_experiment, {"training.classification": 0})
    assert first_phase_of(experiment) is None
    assert first_phase_name(experiment) is None
    for make in (
        lambda: train_first_phase(experiment, tmp_path, workers=0),
        lambda: train(experiment, tmp_path, workers=0, first_phase=first_phase),
    ):
        with pytest.raises(ValueError, match="training.classification is 0: there is no first phase"):
            make()


def test_names(small_experiment):
    def name(**changes):
        return first_phase_name(
            load_experiment(small_experiment, {k.replace("__", "."): v for k, v in changes.items()})
        )

    assert name() == name(seed=3) == name(recipe=RELEASED) == name(maps__method="cam") == name(data__saliency=None)
    others = {
        name(),
        name(training__crop=64),
        name(training__epochs=5),
        name(data__dataset="elsewhere"),
        name(network__classifier="pooled"),
        name(recipe="released"),
        name(training__optimiser="sgd", training__weight_decay=None),
        name(training__optimiser="sgd", training__weight_decay=None, recipe__optimiser="released"),
    }
    assert len(others) == 8


def test_commands(small_experiment, tmp_path, capsys):
    settings = json.dumps(small_experiment)
    phase, run = tmp_path / "phase", tmp_path / "run"
    assert main(["train", settings, "--only-first-phase", "--output", str(phase), "--workers", "0"]) == 0
    assert capsys.readouterr().out == f"{phase / FIRST_PHASE}\n"
    assert main(["train", settings, "--first-phase", str(phase), "--output", str(run), "--workers", "0"]) == 0
    assert (run / "weights.safetensors").is_file()
