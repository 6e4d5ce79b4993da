from pathlib import Path

import pytest
import yaml

from getam import load_experiment, load_recipe
from getam.cli.options import _setting
from getam.config.experiment import EXPERIMENT, training_digest
from getam.config.experiment_file import write_experiment

SMALLEST = {"name": "e", "data": {"dataset": "d", "saliency": None}, "network": {"backbone": "vitb_hybrid"}}


def with_settings(**settings):
    return {**SMALLEST, **settings}


def test_defaults_are_the_published_settings():
    experiment = load_experiment(SMALLEST)
    training = experiment.training
    assert (training.crop, training.batch, training.epochs, training.rate) == (256, 4, 20, 0.04)
    assert (training.power, training.joint_factor, training.classification) == (0.9, 0.1, 0.5)
    assert experiment.recipe == load_recipe("released")
    assert (experiment.recipe.momentum, experiment.recipe.weight_decay) == (5e-4, 0)
    assert experiment.inference.sizes == (256, 320, 480)
    assert experiment.crf.model_dump() == {
        "iterations": 20,
        "gaussian": (3, 3),
        "bilateral": (83, 5, 4),
        "backend": "lattice",
        "negligible": 0.01,
        "bgr": False,
    }
    # Exact mode: nothing that changes the rounding is on.
    assert training.precision == experiment.inference.precision == "float32"
    assert [training.channels_last, training.compile, training.fused_optimiser] == [False] * 3


def test_the_resolved_file_reads_back_as_the_same_experiment(tmp_path):
    experiment = load_experiment(with_settings(recipe={"preset": "paper", "opening": 3}, training={"rate": 1e-3}))
    write_experiment(tmp_path, experiment)
    assert load_experiment(tmp_path / EXPERIMENT) == experiment
    settings = yaml.safe_load((tmp_path / EXPERIMENT).read_text())
    assert settings["recipe"]["saliency_target"] == "paper"  # every setting stands in the file
    assert settings["training"]["power"] == 0.9


def test_numbers_as_people_write_them(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text(
        "name: e\ndata: {dataset: d, saliency: null}\nnetwork: {backbone: vitb}\n"
        "training: {rate: 1e-3, dense_energy: {weight: 1e-7}}\n"
    )
    assert _setting("training.rate=5e-4") == ("training.rate", 5e-4)
    training = load_experiment(path).training
    assert (training.rate, training.dense_energy.weight) == (1e-3, 1e-7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training": {"bach": 4}}, "training.bach: no such setting; did you mean batch"),
        ({"trainig": {}}, "trainig: no such setting; did you mean training"),
        ({"data": {"dataset": "d"}}, "data.saliency: missing"),
        ({"training": {"batch": "4"}}, "training.batch: .*integer, not '4'"),
        ({"training": {"batch": 4.5, "crop": 100}}, "training.crop: .*multiple of 32.*training.batch: .*not 4.5"),
        ({"training": {"rate": float("nan")}}, "training.rate: .*finite"),
        ({"training": {"optimiser": "adamw"}}, "weight_decay: adamw needs one"),
        ({"training": {"weight_decay": 0.1}}, "weight_decay is for adamw"),
        ({"recipe": "publishd"}, "unknown recipe 'publishd'; known are released, paper"),
        ({"recipe": {"openning": 3}}, "unknown setting 'openning' of a recipe"),
        ({"recipe": 3}, "recipe|expected released, paper"),
        ({"maps": {"start_layer": 12}}, "maps.start_layer: vitb_hybrid has blocks 0 to 11"),
        ({"network": {"backbone": "vitc"}}, "network.backbone: .*vitb_hybrid.*not 'vitc'"),
        ({"network": {"backbone": "vitb", "pretrained": 3}}, "network.pretrained: "),
        ({"inference": {"sizes": []}}, "inference.sizes: "),
        ({"crf": {"gaussian": [3]}}, "crf.gaussian.1: missing"),
        ({"name": "a/b"}, "name: "),
        ({"seed": True}, "seed: "),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_experiment(with_settings(**settings))
    assert "pydantic" not in str(caught.value)


def test_files_that_are_no_experiment(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no experiment file .*none\.yaml"):
        load_experiment(tmp_path / "none.yaml")
    for content, message in [("a: [", "is not YAML"), ("- 1", "expected name, data, network")]:
        path = tmp_path / "e.yaml"
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            load_experiment(path)


def test_overrides_override_the_file():
    overrides = {"seed": 3, "training.epochs": 5, "recipe.opening": 2, "training.dense_energy.weight": 0}
    experiment = load_experiment(with_settings(recipe="paper"), overrides)
    assert (experiment.seed, experiment.training.epochs, experiment.training.dense_energy.weight) == (3, 5, 0)
    assert experiment.recipe == load_recipe("paper", opening=2)
    with pytest.raises(ValueError, match="name.x: name is not a section"):
        load_experiment(SMALLEST, {"name.x": 1})


def test_the_digest_is_of_what_the_weights_depend_on():
    digest = training_digest(load_experiment(SMALLEST))
    same = [{"name": "other"}, {"crf.iterations": 3}, {"inference.flip": True}, {"monitoring.history": 7}]
    same += [{"data.dataset": "elsewhere"}]  # what is in it has a digest of its own
    other = [
        {"seed": 1},
        {"training.rate": 0.1},
        {"recipe.opening": 3},
        {"maps.method": "cam"},
        {"data.split": "train"},
    ]
    assert {training_digest(load_experiment(SMALLEST, change)) for change in same} == {digest}
    others = {training_digest(load_experiment(SMALLEST, change)) for change in other}
    assert len(others) == len(other)
    assert digest not in others


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 6),
        ({"network": {"backbone": "vitb"}, "recipe": "paper"}, 0),
        ({"network": {"backbone": "vitb"}}, 6),
        ({"maps": {"start_layer": 2}}, 2),
        ({"maps": {"method": "grad_cam"}}, None),
    ],
)
def test_start_layer(settings, expected):
    assert load_experiment(with_settings(**settings)).start_layer == expected


def test_paths_are_paths():
    experiment = load_experiment(with_settings(network={"backbone": "vit_tiny", "pretrained": "w.safetensors"}))
    assert experiment.network.pretrained == Path("w.safetensors")
