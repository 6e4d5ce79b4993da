"""Entries of the configuration: inheritance, seeds and runs, shared first phases, the schema."""

import pytest
import yaml

from getam.config.entries import (
    check_teacher,
    entry_of,
    first_phase_of_run,
    runs_of,
    settings_of,
    settings_of_first_phase,
    teacher_of,
)
from getam.config.experiment_file import load_experiment
from getam.config.first_phase import first_phase_of
from getam.config.schema import entry_schema
from tests.helpers.configuration import ROOT


def test_what_an_entry_extends(config):
    config["recipes"]["base"] = {"recipe": "paper", "training": {"epochs": 3, "dense_energy": {"weight": 0}}, "seed": 5}
    config["experiments"] = {
        "first": {
            "extends": "base",
            "data": {"dataset": "d", "saliency": None},
            "network": {"backbone": "vitb"},
            "training": {"batch": 2, "dense_energy": {"scale": 1}},
        },
        "second": {"extends": "first", "recipe": {"opening": 3}, "training": {"epochs": 4}},
    }
    found = settings_of("second", config)
    assert found["training"] == {"epochs": 4, "batch": 2, "dense_energy": {"weight": 0, "scale": 1}}
    assert found["recipe"] == {"preset": "paper", "opening": 3}
    assert entry_of("first", config)["recipe"] == "paper"
    assert (found["name"], found["seed"]) == ("second", 5)
    other = settings_of("second-seed0", config)
    assert (other["name"], other["seed"], other["training"]) == ("second-seed0", 0, found["training"])


def test_seeds(config):
    config["seeds"] = [0, 1]
    assert runs_of("voc_deit", config) == ["voc_deit", "voc_deit-seed1"]
    assert runs_of("released_voc_deit", config) == ["released_voc_deit"]
    config["experiments"]["voc_deit"]["seeds"] = [1, 2]
    assert runs_of("voc_deit", config) == ["voc_deit-seed1", "voc_deit-seed2"]
    assert "seeds" not in settings_of("voc_deit-seed1", config)


def test_a_first_phase_is_found_by_its_name(config):
    """A cluster job is given only the path of its output."""
    runs = [f"{name}-seed7" for name in config["experiments"] if "checkpoint" not in entry_of(name, config)]
    phases = {run: phase for run in runs if (phase := first_phase_of_run(run, config))}
    assert set(runs) - set(phases) == {"voc_multistage-seed7", "voc_multistage_masks-seed7"}
    for run, phase in phases.items():
        found, own = (load_experiment(s) for s in (settings_of_first_phase(phase, config), settings_of(run, config)))
        assert first_phase_of(found) == first_phase_of(own)
    shared = {phases[f"{name}-seed7"] for name in ("voc_vitb_hybrid", "voc_vitb_hybrid_cam", "voc_vitb_hybrid_from_0")}
    assert len(shared) == 1
    assert phases["voc_deit-seed7"] not in shared
    with pytest.raises(ValueError, match="no experiment of the configuration has the first phase 0123456789ab-seed0"):
        settings_of_first_phase("0123456789ab-seed0", config)


def test_teachers(config):
    """The run's folder takes the place of its name; a pupil of another seed has the teacher of that seed."""
    config["experiments"] |= {
        "pupil": {"extends": "voc_vitb", "taught_by": {"run": "voc_deit", "labels": "masks"}},
        "of_seed": {"extends": "voc_vitb", "taught_by": {"run": "voc_deit-seed4"}},
        "of_released": {"extends": "voc_vitb", "taught_by": {"run": "released_voc_deit"}},
        "bound": {"extends": "voc_vitb", "taught_by": "truth"},
    }
    taught = settings_of("pupil", config)["taught_by"]
    assert taught == {"run": "results/experiments/voc_deit", "labels": "masks"}
    experiment = load_experiment(settings_of("pupil", config))
    folder = experiment.given_labels("train_aug", None)
    assert str(folder) == "results/experiments/voc_deit/train_aug/masks_known_classes"
    assert first_phase_of_run("pupil", config) is None
    runs = ("pupil", "pupil-seed3", "of_seed-seed3", "of_released-seed3", "bound", "voc_deit")
    teachers = ("voc_deit", "voc_deit-seed3", "voc_deit-seed4", "released_voc_deit", None, None)
    assert tuple(teacher_of(run, config) for run in runs) == teachers
    for name in ("pupil", "of_seed", "of_released", "bound"):
        check_teacher(name, config)


def test_wrong_teachers(config):
    config["experiments"]["pupil"] = {"extends": "voc_vitb", "taught_by": {"run": "voc_diet"}}
    with pytest.raises(
        ValueError, match=r"experiments\.pupil\.taught_by\.run: there is no 'voc_diet'; did you mean voc"
    ):
        settings_of("pupil", config)
    config["experiments"]["pupil"]["taught_by"] = {"run": "coco_vitb_hybrid"}
    with pytest.raises(
        ValueError, match="taught_by.run: coco_vitb_hybrid has another data set, resources/datasets/coco"
    ):
        check_teacher("pupil", config)
    config["experiments"]["pupil"]["taught_by"] = {"run": "voc_multistage"}
    with pytest.raises(
        ValueError, match="voc_multistage has no activation maps, and so no pseudo labels; take its masks"
    ):
        check_teacher("pupil", config)
    config["experiments"]["pupil"]["taught_by"]["labels"] = "masks"
    check_teacher("pupil", config)
    config["experiments"]["pupil"]["taught_by"] = {"run": "other"}
    config["experiments"]["other"] = {"extends": "voc_vitb", "taught_by": {"run": "pupil"}}
    with pytest.raises(ValueError, match="taught_by.run: pupil is taught by other is taught by pupil"):
        check_teacher("pupil", config)


def test_wrong_entries(config):
    with pytest.raises(ValueError, match="there is no 'voc_dei'; did you mean voc_deit"):
        settings_of("voc_dei", config)
    config["experiments"]["circle"] = {"extends": "voc_deit"}
    config["experiments"]["voc_deit"]["extends"] = "circle"
    with pytest.raises(ValueError, match="circle extends voc_deit extends circle"):
        settings_of("circle", config)
    config["experiments"]["circle"] = {"extends": "vox"}
    with pytest.raises(ValueError, match=r"experiments\.circle\.extends: there is no 'vox'; did you mean voc"):
        settings_of("circle", config)
    config["experiments"] = {"lonely": {"network": {"backbone": "vitb"}}}
    with pytest.raises(ValueError, match=r"experiments\.lonely: data\.dataset is missing"):
        settings_of("lonely", config)


def test_the_schema_is_that_of_the_settings():
    written = yaml.safe_load((ROOT / "workflow" / "schemas" / "experiment.schema.yaml").read_text())
    assert written == yaml.safe_load(yaml.safe_dump(entry_schema())), "run `make schemas`"
