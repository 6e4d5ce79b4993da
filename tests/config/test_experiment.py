from contextlib import suppress
from datetime import date
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
        (
            {"network": {"backbone": {"tim": "x"}}},
            "network.backbone.timm: missing; network.backbone.tim: no such setting",
        ),
        ({"network": {"backbone": {"timm": "a/b"}}}, "network.backbone.timm: .*not 'a/b'"),
        ({"network": {"backbone": "vitb", "pretrained": 3}}, "network.pretrained: "),
        ({"network": {"backbone": "deeplab_v2"}}, "network.backbone: deeplab_v2 learns from given labels alone"),
        ({"training": {"crop": 321}}, "training.crop: vitb_hybrid needs a multiple of 32, not 321"),
        ({"inference": {"sizes": [256, 513]}}, "inference.sizes: vitb_hybrid needs a multiple of 32, not 513"),
        ({"taught_by": "teacher"}, "taught_by: expected truth, or {run: ..., labels: .*}, not 'teacher'"),
        (
            {"taught_by": {"runn": "r"}},
            "^experiment: taught_by.run: missing; taught_by.runn: no such .*did you mean run",
        ),
        (
            {"taught_by": {"run": "r", "labels": "x"}},
            "taught_by.labels: Input should be 'pseudo_labels' or 'masks', not",
        ),
        ({"training": {"scale": [0.5, 1]}}, "training.scale is for given labels: it needs taught_by"),
        ({"taught_by": "truth", "training": {"scale": [2, 1]}}, "training.scale: expected the smaller factor first"),
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


JUNK = [None, [], {}, "x", 1.5, -1, True, 10**400, float("nan"), [[1]], {"a": 1}, {1: 2}, date(2026, 1, 31), b"x"]


@pytest.mark.parametrize("value", JUNK, ids=lambda value: repr(value)[:20])
def test_any_wrong_value_is_a_value_error(value):
    sections = {".".join(key.split(".")[:n]) for key in OTHERS for n in (1, 2)}
    for key in sorted({*OTHERS, *sections, "recipe.preset", "nosuch", ""}):
        with suppress(ValueError):
            load_experiment(SMALLEST, {key: value})


def test_dates_and_keys_in_files(tmp_path):
    path, smallest = tmp_path / "e.yaml", "data: {dataset: d, saliency: null}\nnetwork: {backbone: vitb}\n"
    path.write_text(f"name: 2026-01-31\n{smallest}")
    assert load_experiment(path).name == "2026-01-31"
    path.write_text(f"name: e\n{smallest}training: {{rate: 0.1}}\ntraining: {{epochs: 3}}\n")
    with pytest.raises(ValueError, match=r"(?s)e\.yaml is not YAML: the key .training. is there twice.*line 4"):
        load_experiment(path)


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


# Another valid value of every setting of an experiment, and whether the trained weights depend on it.
OTHERS = {
    "name": ("f", False),
    "seed": (1, True),
    "data.dataset": ("elsewhere", False),  # its content is compared
    "data.split": ("train", True),
    "data.saliency": ("maps", True),
    "taught_by": ("truth", True),
    "network.backbone": ("vitb", True),
    "network.pretrained": (False, True),
    "network.classifier": ("class_token", True),
    "network.decoder_width": (64, True),
    "recipe.optimiser": ("paper", True),
    "recipe.saliency_target": ("paper", True),
    "recipe.mining_conflict": ("paper", True),
    "recipe.start_layer": ("paper", True),
    "recipe.heads": ("paper", True),
    "recipe.padding": ("paper", True),
    "recipe.weight_standardisation": ("paper", True),
    "recipe.background_power": (4.0, True),
    "recipe.mining_quantile": (0.95, True),
    "recipe.opening": (3, True),
    "maps.method": ("cam", True),
    "maps.start_layer": (3, True),
    "maps.fusion": ("product", True),
    "maps.iterations": (5, True),
    "maps.dilations": ([1, 2], True),
    "maps.labels": ("crf", True),
    "training.crop": (320, True),
    "training.batch": (8, True),
    "training.epochs": (10, True),
    "training.steps": (7, True),
    "training.scale": ([0.5, 1.5], True),
    "training.classification": (0.25, True),
    "training.optimiser": ("adamw", True),
    "training.rate": (0.01, True),
    "training.power": (1.0, True),
    "training.joint_factor": (1.0, True),
    "training.head_factor": (10.0, True),
    "training.bias_factor": (2.0, True),
    "training.warmup": (5, True),
    "training.weight_decay": (0.01, True),
    "training.split_cross_entropy": (False, True),
    "training.dense_energy.weight": (0.0, True),
    "training.dense_energy.sigma_rgb": (10.0, True),
    "training.dense_energy.sigma_xy": (50.0, True),
    "training.dense_energy.scale": (1.0, True),
    "training.precision": ("bfloat16", True),
    "training.channels_last": (True, True),
    "training.compile": (True, True),
    "training.fused_optimiser": (True, True),
    "inference.sizes": ([320], False),
    "inference.fit": ("pad", False),
    "inference.flip": (True, False),
    "inference.precision": ("tf32", False),
    "crf.iterations": (10, False),
    "crf.gaussian": ([1.0, 3.0], False),
    "crf.bilateral": ([67.0, 3.0, 4.0], False),
    "crf.backend": ("pydensecrf", False),
    "crf.negligible": (0.0, False),
    "crf.bgr": (True, False),
    "monitoring.history": (10, False),
    "monitoring.sheet": (0, False),
    "monitoring.checkpoint_minutes": (1.0, False),
}
# adamw needs a weight decay, and sgd takes none.
ADAMW = "training.weight_decay"
TOGETHER = {
    "training.optimiser": {ADAMW: 0.01},
    ADAMW: {"training.optimiser": "adamw"},
    "training.scale": {"taught_by": "truth"},
}


def leaves(value, path=()):
    """Dotted names of all settings of a resolved experiment."""
    if not isinstance(value, dict):
        return {".".join(path)}
    return {name for key, inner in value.items() for name in leaves(inner, (*path, key))}


def test_every_setting_is_known_to_the_next_test():
    assert leaves(yaml.safe_load(load_experiment(SMALLEST).as_yaml())) == set(OTHERS)


@pytest.mark.parametrize("key", OTHERS)
def test_every_setting_that_can_change_weights_changes_their_identity(key):
    value, counts = OTHERS[key]
    before = load_experiment(SMALLEST, {key: 0.1, "training.optimiser": "adamw"} if key == ADAMW else None)
    after = load_experiment(SMALLEST, {**TOGETHER.get(key, {}), key: value})
    assert (training_digest(before) != training_digest(after)) == counts


def test_given_labels_need_one_phase():
    """What the two phases of learning from maps need is without effect, and the file says so."""
    training = {"classification": 0.3, "joint_factor": 5.0, "dense_energy": {"weight": 1.0, "scale": 1.0}}
    changed = load_experiment(with_settings(taught_by="truth", training=training))
    assert changed == load_experiment(with_settings(taught_by="truth"))
    assert training_digest(changed) != training_digest(load_experiment(SMALLEST))
    settings = yaml.safe_load(changed.as_yaml())["training"]
    assert (settings["classification"], settings["joint_factor"], settings["dense_energy"]["weight"]) == (0, 1, 0)


def test_settings_of_later_versions_leave_identities_alone():
    """The digest of version 0.2: `getam refine` compares it with stored runs."""
    experiment = load_experiment(with_settings(training={"classification": 0.3}, network={"backbone": "vitb"}))
    assert training_digest(experiment).startswith("0367d1d56")
    assert "taught_by: null" in experiment.as_yaml()


def test_a_backbone_of_timm():
    """Its depth is not known without timm, so that the released first block is left to the network."""
    settings = {"backbone": {"timm": "vit_small_patch14_reg4_dinov2.lvd142m"}}
    experiment = load_experiment(with_settings(network=settings))
    assert experiment.network_arguments()["backbone"] == "timm:vit_small_patch14_reg4_dinov2.lvd142m"
    assert experiment.start_layer is None
    assert load_experiment(with_settings(network=settings, recipe="paper")).start_layer == 0
    assert load_experiment(with_settings(network=settings, maps={"start_layer": 3})).start_layer == 3
    assert experiment.network_modules() == experiment.training_modules() == ("getam.models.timm_backbones",)
    assert load_experiment(yaml.safe_load(experiment.as_yaml())) == experiment


def test_pretrained_weights_are_part_of_the_identity():
    kinds = [True, False, "weights.safetensors"]
    digests = [training_digest(load_experiment(SMALLEST, {"network.pretrained": kind})) for kind in kinds]
    assert len(set(digests)) == 3
    # A file elsewhere may be the same file: its content is compared (see test_training).
    moved = load_experiment(SMALLEST, {"network.pretrained": "elsewhere/weights.safetensors"})
    assert training_digest(moved) == digests[2]


@pytest.mark.parametrize("dilations", [[], [0]])
def test_pamr_needs_dilations(dilations):
    with pytest.raises(ValueError, match=r"experiment: maps\.dilations"):
        load_experiment(SMALLEST, {"maps.dilations": dilations})


FAST = {"precision": "bfloat16", "channels_last": True, "compile": "possible", "fused_optimiser": True}


def test_speed_is_a_word_for_four_settings():
    fast = load_experiment(SMALLEST, {"training.speed": "fast"})
    assert {key: getattr(fast.training, key) for key in FAST} == FAST
    spelled_out = load_experiment(SMALLEST, {f"training.{key}": value for key, value in FAST.items()})
    assert fast == spelled_out
    assert "speed" not in fast.as_yaml()
    assert training_digest(fast) == training_digest(spelled_out)
    assert load_experiment(SMALLEST, {"training.speed": "exact"}) == load_experiment(SMALLEST)


def test_a_setting_beside_speed_counts():
    mixed = load_experiment(SMALLEST, {"training.speed": "fast", "training.precision": "tf32"}).training
    assert (mixed.precision, mixed.channels_last) == ("tf32", True)
    with pytest.raises(ValueError, match="training.speed: Input should be 'exact' or 'fast', not 'slow'"):
        load_experiment(SMALLEST, {"training.speed": "slow"})
