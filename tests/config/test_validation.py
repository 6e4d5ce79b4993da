"""The check of the workflow's whole configuration: one message for everything that is wrong."""

import copy
from pathlib import Path

import pytest

pytest.importorskip("jsonschema")
from getam.config.validation import check_configuration, restore_types
from tests.helpers.configuration import ROOT, overlaid, read

SCHEMAS = ROOT / "workflow" / "schemas"


def message_of(config: dict, over: dict, schemas: Path = SCHEMAS) -> str:
    with pytest.raises(ValueError, match="^The configuration is wrong") as error:
        check_configuration(overlaid(copy.deepcopy(config), over), schemas, read("archives.yaml"))
    return str(error.value)


@pytest.mark.parametrize("overlay", [None, "demo.yaml", "voc6.yaml"])
def test_the_configurations_of_the_repository_are_right(config, overlay):
    config = overlaid(config, read(overlay)) if overlay else config
    before = copy.deepcopy(config)
    check_configuration(config, SCHEMAS, read("archives.yaml"))
    assert config == before


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"sheds": [0]}, "configuration: Additional properties are not allowed ('sheds' was unexpected)"),
        ({"seeds": []}, "seeds: [] should be non-empty"),
        ({"device": "gpu"}, "device: 'gpu' does not match '^(auto|cpu|cuda(:[0-9]+)?)$'"),
        ({"pathvars": {"results": ""}}, "pathvars.results: '' should be non-empty"),
        (
            {"experiments": {"voc_deit": {"training": {"epoch": 3}}}},
            "experiments.voc_deit.training: Additional properties are not allowed ('epoch' was unexpected)",
        ),
        (
            {"experiments": {"voc_deit": {"training": {"rate": -1}}}},
            "experiments.voc_deit.training.rate: -1 is less than or equal to the minimum of 0",
        ),
    ],
)
def test_a_wrong_key_is_named(config, over, message):
    assert message_of(config, over) == f"The configuration is wrong.\n{message}"


@pytest.mark.parametrize(
    ("over", "message"),
    [  # A preset or a section; the name of a backbone.
        ({"recipe": "papr"}, "recipe: 'papr' is not one of ['released', 'paper']"),
        ({"recipe": {"heads": "papr"}}, "recipe.heads: 'papr' is not one of ['released', 'paper']"),
        ({"network": {"backbone": "vitg"}}, "network.backbone: 'vitg' is not one of ['vitb_hybrid', "),
    ],
)
def test_of_several_kinds_of_values_the_likely_one_explains(config, over, message):
    found = message_of(config, {"experiments": {"voc_deit": over}})
    assert found.startswith(f"The configuration is wrong.\nexperiments.voc_deit.{message}")


def test_everything_that_is_wrong_is_one_message_in_order(config):
    wrong = {"shards": 0, "batch": "4", "experiments": {"voc_deit": {"maps": {"fusion": "mean"}}}}
    title, *lines = message_of(config, wrong).splitlines()
    assert title == "The configuration is wrong."
    assert [line.split(":")[0] for line in lines] == ["batch", "experiments.voc_deit.maps.fusion", "shards"]


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"experiments": {"voc_deit": {"extends": "vox"}}}, "experiments.voc_deit.extends: there is no 'vox'"),
        ({"report": ["voc_val_mIoU"]}, "report: there is no 'voc_val_mIoU'; did you mean voc_val_miou?"),
        ({"unpack": {"voc2013": {"into": "resources"}}}, "unpack: there is no 'voc2013'; did you mean "),
    ],
)
def test_names_are_checked_after_the_shape(config, over, message):
    assert message_of(config, over).startswith(f"The configuration is wrong. {message}")
    assert message_of(config, {**over, "shards": 0}).splitlines()[1:] == ["shards: 0 is less than the minimum of 1"]


def test_what_snakemake_reads_as_strings(config):
    """It reads every value inside `--config 'key={inner: value}'` as a string."""
    typed = {
        "seeds": [3, 4],
        "gpus": 2,
        "keep_probabilities": False,
        "datasets": {"voc": {"archives": None, "root": "there", "options": {"subset": True, "sbd": None}}},
        "experiments": {
            "voc_deit": {
                "seed": 7,
                "network": {"pretrained": False},
                "recipe": {"mining_quantile": 0.8},
                "training": {"rate": 1e-3, "crop": 64},
                "maps": {"dilations": [1, 2]},
            }
        },
    }
    as_strings = {
        "seeds": ["3", "4"],
        "gpus": "2",
        "keep_probabilities": "false",
        "datasets": {"voc": {"archives": "null", "root": "there", "options": {"subset": "true", "sbd": "null"}}},
        "experiments": {
            "voc_deit": {
                "seed": "7",
                "network": {"pretrained": "false"},
                "recipe": {"mining_quantile": "0.8"},
                "training": {"rate": "1e-3", "crop": "64"},
                "maps": {"dilations": ["1", "2"]},
            }
        },
    }
    expected, given = overlaid(copy.deepcopy(config), typed), overlaid(copy.deepcopy(config), as_strings)
    restore_types(given, SCHEMAS)
    assert given == expected
    check_configuration(given, SCHEMAS, read("archives.yaml"))


def test_a_word_for_the_saliency_maps_names_the_other_key(config):
    with pytest.raises(ValueError, match="expected a mapping of entries, not 'u2net'; .* saliency_source=u2net"):
        check_configuration({**config, "saliency": "u2net"}, SCHEMAS, read("archives.yaml"))
