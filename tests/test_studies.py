from pathlib import Path

import pytest
import yaml

from getam.experiment import load_experiment
from getam.experiment_schema import entry_schema
from getam.studies import check_studies, entry_of, rows_of, runs_of, score_file, settings_of

ROOT = Path(__file__).parents[1]


def read(name):
    return yaml.safe_load((ROOT / "config" / name).read_text())


def overlaid(base, over):
    """As Snakemake lays a --configfile over what the Snakefile reads."""
    for key, value in over.items():
        inner = base.get(key)
        base[key] = overlaid(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return base


@pytest.fixture
def config():
    whole = {}
    for name in ("config.yaml", "recipes.yaml", "experiments.yaml", "paper.yaml"):
        whole |= read(name)
    return whole


@pytest.mark.parametrize("overlay", [None, "demo.yaml", "voc_subset.yaml"])
def test_every_experiment_is_one(config, overlay):
    config = overlaid(config, read(overlay)) if overlay else config
    check_studies(config)
    for name in config["experiments"]:
        assert load_experiment(settings_of(name, config)).name == name


def test_the_schema_is_that_of_the_settings():
    written = yaml.safe_load((ROOT / "workflow" / "schemas" / "experiment.schema.yaml").read_text())
    assert written == yaml.safe_load(yaml.safe_dump(entry_schema())), "run `make schemas`"


def test_every_number_of_the_paper(config):
    """The numbers of docs/method.md, section 7, as they stand there."""
    published = sorted(
        row.paper for table in config["tables"] for row in rows_of(table, config) if row.paper is not None
    )
    once = [71.7, 72.3, 68.1, 68.8, 66.0, 68.9, 70.7, 71.1, 36.4, 70.6, 70.4, 64.7, 16.4, 9.2, 2.6, 2.1, 7.7]
    of_released_checkpoints = [71.7, 68.1, 66.0, 70.7, 36.4]
    assert published == sorted(once + of_released_checkpoints)


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
    row = rows_of("pseudo_label_quality", config)[0]
    assert score_file(row, "voc_vitb_hybrid-seed1") == "voc_vitb_hybrid-seed1/train/pseudo_label_iou.csv"


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
        check_studies(config)


def test_wrong_rows(config):
    config["tables"]["recipes"]["rows"].append({"row": "x", "experiment": "voc_vitb_hybrid", "minus": "voc_vitb_hybrd"})
    with pytest.raises(ValueError, match=r"tables\.recipes: row 'x' names .*'voc_vitb_hybrd'.*mean voc_vitb_hybrid"):
        check_studies(config)
    config["tables"]["recipes"]["rows"][-1:] = [{"row": "y"}]
    with pytest.raises(ValueError, match=r"tables\.recipes: row 'y' needs an experiment, or a state"):
        check_studies(config)
