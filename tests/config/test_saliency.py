"""The source of saliency maps: one key for all entries, which an entry may override; a folder for each source."""

import pytest

from getam.config.entries import settings_of
from getam.config.saliency import described, maps_folder, source_of
from tests.helpers.configuration import overlaid


def test_one_key_sets_the_source_of_all_entries(config):
    assert settings_of("voc_deit", config)["data"]["saliency"] == "resources/saliency/voc/authors"
    config = overlaid(config, {"saliency_source": "isnet", "saliency": {"coco": {"source": "truth"}}})
    assert settings_of("voc_deit", config)["data"]["saliency"] == "resources/saliency/voc/isnet"
    assert settings_of("coco_vitb_hybrid", config)["data"]["saliency"] == "resources/saliency/coco/truth"
    assert [source_of(name, config) for name in ("voc", "coco")] == ["isnet", "truth"]


def test_other_folders_are_taken_as_they_are(config):
    for path in (None, "my/maps", "resources/saliency/voc/border", "resources/voc6/saliency"):
        assert maps_folder(path, config) == path
    with pytest.raises(ValueError, match=r"data\.saliency: there is no 'vok'; did you mean voc"):
        maps_folder("resources/saliency/vok", config)


@pytest.mark.parametrize(
    ("entry", "source", "archives", "path"),
    [
        ({}, "authors", ["saliency_voc"], "resources/saliency_maps/voc"),
        ({}, "pfan", ["pfan_voc"], "resources/pfan_maps/voc"),
        ({"path": "own"}, "folder", [], "own"),
        ({"path": "own", "archives": ["sbd"]}, "folder", ["sbd"], "own"),
        ({"path": "own"}, "border", [], None),
        ({"path": "own"}, "isnet", [], None),
        ({"path": "own.onnx"}, "isnet", [], "own.onnx"),
        ({"source": "authors", "path": "own"}, "authors", [], "own"),
        # The maps of an entry from another source than its own.
        (
            {"source": "folder", "path": "own", "archives": ["sbd"]},
            "authors",
            ["saliency_voc"],
            "resources/saliency_maps/voc",
        ),
        ({"source": "folder", "path": "own", "archives": ["sbd"]}, "border", [], None),
    ],
)
def test_keys_of_another_source_are_left_out(config, entry, source, archives, path):
    config["saliency"]["voc"] = {"dataset": "voc", **entry}
    assert described("voc", source, config) == {
        "archives": archives,
        "source": source,
        "threshold": None,
        "path": path,
    }


def test_the_threshold_is_that_of_the_source(config):
    config["saliency"]["voc"] = {"dataset": "voc", "source": "isnet", "threshold": 60}
    assert described("voc", "isnet", config)["threshold"] == 60
    assert described("voc", "border", config)["threshold"] is None


def test_sources_that_cannot_be(config):
    with pytest.raises(ValueError, match=r"saliency\.voc: source folder needs a path"):
        described("voc", "folder", config)
    config["datasets"]["shapes"] = {"kind": "shapes"}
    config["saliency"]["shapes"] = {"dataset": "shapes"}
    with pytest.raises(ValueError, match=r"saliency\.shapes: authors published no maps of shapes; choose"):
        described("shapes", "authors", config)
