from pathlib import Path

import pytest
import yaml

from getam.config.entries import entry_of, first_phase_of_run, runs_of, settings_of, settings_of_first_phase
from getam.config.experiment_file import load_experiment
from getam.config.first_phase import first_phase_of
from getam.config.schema import entry_schema
from getam.config.tables import Row, check_studies, rows_of, runs_of_row, score_file

ROOT = Path(__file__).parents[2]


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
    check_studies(config, read("archives.yaml"))
    for name in config["experiments"]:
        assert load_experiment(settings_of(name, config)).name == name


def test_the_schema_is_that_of_the_settings():
    written = yaml.safe_load((ROOT / "workflow" / "schemas" / "experiment.schema.yaml").read_text())
    assert written == yaml.safe_load(yaml.safe_dump(entry_schema())), "run `make schemas`"


@pytest.mark.parametrize(
    ("table", "row", "value"),
    [  # docs/method.md, section 7
        ("voc_val_miou", "ViT-Hybrid", 71.7),
        ("voc_val_miou", "ViT", 68.1),
        ("voc_val_miou", "DeiT", 66.0),
        ("voc_val_miou", "DeiT-Distilled", 70.7),
        ("voc_test_miou", "ViT-Hybrid", 72.3),
        ("voc_test_miou", "ViT", 68.8),
        ("voc_test_miou", "DeiT", 68.9),
        ("voc_test_miou", "DeiT-Distilled", 71.1),
        ("released/voc_val_miou", "ViT-Hybrid", 71.7),
        ("released/voc_val_miou", "ViT", 68.1),
        ("released/voc_val_miou", "DeiT", 66.0),
        ("released/voc_val_miou", "DeiT-Distilled", 70.7),
        ("coco_val_miou", "ViT-Hybrid", 36.4),
        ("coco_val_miou", "ViT-Hybrid, released checkpoint", 36.4),
        ("activation_methods", "GETAM - CAM", 16.4),
        ("activation_methods", "GETAM - Grad-CAM", 9.2),
        ("activation_methods", "GETAM - attention x gradient", 2.6),
        ("activation_methods", "CNN, CAM", 64.7),
        ("pseudo_label_methods", "ViT, label completion - CRF labels", 7.7),
        ("pseudo_label_methods", "CNN, label completion - CRF labels", 2.1),
        ("multistage_voc_val_miou", "DeepLab v2, DeiT-Distilled's labels, val", 70.6),
        ("multistage_voc_val_miou", "DeepLab v2, DeiT-Distilled's labels, test", 70.4),
    ],
)
def test_numbers_of_the_paper(config, table, row, value):
    assert [found.paper for found in rows_of(table, config) if found.row == row] == [value]


def test_no_other_number_is_the_papers(config):
    assert sum(row.paper is not None for table in config["tables"] for row in rows_of(table, config)) == 22


def test_nothing_of_the_papers_stands_beside_the_photographs(config):
    config = overlaid(config, own := read("voc_subset.yaml"))
    for table in own["tables"]:
        assert {(row.paper, row.source, row.note) for row in rows_of(table, config)} == {(None, "", "")}


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
    row = Row("difference", experiment="voc_vitb", minus="voc_deit")
    assert runs_of_row(row, config) == (["voc_vitb-seed1"], ["voc_deit-seed1"])
    row = Row("difference", experiment="voc_vitb", minus="released_voc_deit")
    assert runs_of_row(row, config) == (["voc_vitb", "voc_vitb-seed1"], ["released_voc_deit"] * 2)
    row = Row("difference", experiment="released_voc_vitb", minus="released_voc_deit")
    assert runs_of_row(row, config) == (["released_voc_vitb"], ["released_voc_deit"])
    assert "seeds" not in settings_of("voc_deit-seed1", config)
    row = rows_of("pseudo_label_quality", config)[0]
    assert score_file(row, "voc_vitb_hybrid-seed1") == "voc_vitb_hybrid-seed1/train/pseudo_label_iou.csv"


def test_a_first_phase_is_found_by_its_name(config):
    """A job of a cluster knows nothing but the path that it has to write."""
    runs = [f"{name}-seed7" for name in config["experiments"] if "checkpoint" not in entry_of(name, config)]
    phases = {run: first_phase_of_run(run, config) for run in runs}
    for run, phase in phases.items():
        found, own = (load_experiment(s) for s in (settings_of_first_phase(phase, config), settings_of(run, config)))
        assert first_phase_of(found) == first_phase_of(own)
    shared = {phases[f"{name}-seed7"] for name in ("voc_vitb_hybrid", "voc_vitb_hybrid_cam", "voc_vitb_hybrid_from_0")}
    assert len(shared) == 1
    assert phases["voc_deit-seed7"] not in shared
    with pytest.raises(ValueError, match="no experiment of the configuration has the first phase 0123456789ab-seed0"):
        settings_of_first_phase("0123456789ab-seed0", config)


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
        check_studies(config, read("archives.yaml"))


def test_wrong_rows(config):
    config["tables"]["recipes"]["rows"].append({"row": "x", "experiment": "voc_vitb_hybrid", "minus": "voc_vitb_hybrd"})
    with pytest.raises(ValueError, match=r"tables\.recipes, row 'x': .*'voc_vitb_hybrd'; did you mean voc_vitb_hybrid"):
        check_studies(config, read("archives.yaml"))
    config["experiments"]["voc_deit"]["seeds"] = [7]
    config["tables"]["recipes"]["rows"][-1:] = [{"row": "z", "experiment": "voc_deit", "minus": "voc_vitb_hybrid"}]
    with pytest.raises(ValueError, match=r"tables\.recipes: the entries of row 'z' have no seed in common"):
        check_studies(config, read("archives.yaml"))
    config["tables"]["recipes"]["rows"][-1:] = [{"row": "w", "experiment": "voc_deit", "paper": 1.5}]
    with pytest.raises(ValueError, match=r"tables\.recipes: row 'w' has a published number, and needs a tolerance"):
        check_studies(config, read("archives.yaml"))
    config["tables"]["recipes"]["rows"][-1:] = [{"row": "v", "experiment": "voc_deit", "split": "vall"}]
    with pytest.raises(ValueError, match=r"tables\.recipes, row 'v': split: there is no 'vall'; did you mean val"):
        check_studies(config, read("archives.yaml"))
    config["tables"]["recipes"]["rows"][-1:] = [{"row": "y"}]
    with pytest.raises(ValueError, match=r"tables\.recipes: row 'y' needs an experiment, or a state"):
        check_studies(config, read("archives.yaml"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiments": {"voc_deit": {"checkpoint": "foo"}}}, r"experiments\.voc_deit\.checkpoint: there is no 'foo'"),
        (
            {"experiments": {"voc_deit": {"data": {"dataset": "resources/datasets/vok"}}}},
            r"experiments\.voc_deit\.data\.dataset: there is no 'vok'; did you mean voc",
        ),
        (
            {"experiments": {"voc_deit": {"data": {"split": "train_agu"}}}},
            r"experiments\.voc_deit\.data\.split: there is no 'train_agu'; did you mean train_aug",
        ),
        ({"report": ["nope"]}, r"report: there is no 'nope'"),
        ({"saliency": {"voc": {"dataset": "vox"}}}, r"saliency\.voc\.dataset: there is no 'vox'; did you mean voc"),
        ({"datasets": {"voc": {"archives": ["sbb"]}}}, r"datasets\.voc\.archives: there is no 'sbb'; did you mean sbd"),
    ],
)
def test_wrong_names(config, change, message):
    with pytest.raises(ValueError, match=message):
        check_studies(overlaid(config, change), read("archives.yaml"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": {"mining_quantile": 5}}, r"experiments\.voc_deit: .*mining_quantile is between 0 and 1, not 5"),
        ({"training": {"optimiser": "adamw"}}, r"experiments\.voc_deit: .*weight_decay: adamw needs one"),
        ({"maps": {"start_layer": 40}}, r"experiments\.voc_deit: .*maps\.start_layer: deit has blocks 0 to 11"),
        ({"training": {"crop": 250}}, r"experiments\.voc_deit: training\.crop: .*multiple of 32, not 250"),
    ],
)
def test_values_that_cannot_be(config, change, message):
    config["experiments"]["voc_deit"] = overlaid(dict(config["experiments"]["voc_deit"]), change)
    with pytest.raises(ValueError, match=message):
        check_studies(config, read("archives.yaml"))
