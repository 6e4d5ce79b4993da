"""Tables and their rows: the paper's numbers, the runs of a row, and the check of all names."""

import pytest

from getam.config.entries import settings_of
from getam.config.experiment_file import load_experiment
from getam.config.tables import Row, check_studies, rows_of, runs_of_row, score_file
from tests.helpers.configuration import overlaid, read


@pytest.mark.parametrize("overlay", [None, "demo.yaml", "voc6.yaml"])
def test_every_experiment_is_one(config, overlay):
    config = overlaid(config, read(overlay)) if overlay else config
    check_studies(config, read("archives.yaml"))
    for name in config["experiments"]:
        assert load_experiment(settings_of(name, config)).name == name


@pytest.mark.parametrize(
    ("table", "row", "value"),
    [  # docs/explanation/method.md, section 7
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
    config = overlaid(config, own := read("voc6.yaml"))
    for table in own["tables"]:
        assert {(row.paper, row.source, row.note) for row in rows_of(table, config)} == {(None, "", "")}


def test_held_out_images_need_a_number_of_them(config):
    config = overlaid(config, read("voc6.yaml"))
    config["datasets"]["voc6"]["options"]["hold-out"] = None
    with pytest.raises(ValueError, match=r"experiments\.trial\.data\.split: 'train_aug_fit' needs hold-out, a number"):
        check_studies(config, read("archives.yaml"))


def test_runs_of_a_row(config):
    config["seeds"] = [0, 1]
    config["experiments"]["voc_deit"]["seeds"] = [1, 2]
    row = Row("difference", experiment="voc_vitb", minus="voc_deit")
    assert runs_of_row(row, config) == (["voc_vitb-seed1"], ["voc_deit-seed1"])
    row = Row("difference", experiment="voc_vitb", minus="released_voc_deit")
    assert runs_of_row(row, config) == (["voc_vitb", "voc_vitb-seed1"], ["released_voc_deit"] * 2)
    row = Row("difference", experiment="released_voc_vitb", minus="released_voc_deit")
    assert runs_of_row(row, config) == (["released_voc_vitb"], ["released_voc_deit"])
    row = rows_of("pseudo_label_quality", config)[0]
    assert score_file(row, "voc_vitb_hybrid-seed1") == "voc_vitb_hybrid-seed1/train/pseudo_label_iou.csv"


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
        (
            {"experiments": {"voc_deit": {"data": {"saliency": "resources/saliency/vok"}}}},
            r"experiments\.voc_deit\.data\.saliency: there is no 'vok'; did you mean voc",
        ),
        (
            {"datasets": {"voc": {"parts": {"trainaug": {}}}}},
            r"datasets\.voc\.parts: there is no 'trainaug'; did you mean train_aug",
        ),
        (
            {"datasets": {"voc": {"parts": {"test": {"archives": ["voc_tset"]}}}}},
            r"datasets\.voc\.parts\.test\.archives: there is no 'voc_tset'",
        ),
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
