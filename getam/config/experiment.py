"""One experiment: every setting that a result depends on, validated and with its defaults filled in.

A file holds the settings that differ from the defaults; `load_experiment` fills in the others. Settings of the machine
(number of processes, device) do not belong to an experiment; they are options of the commands.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationInfo, field_validator, model_validator

from getam.config.backbone_specs import BACKBONES, DEEPLAB, TIMM, module_of
from getam.config.choices import DILATIONS, FUSIONS, ITERATIONS, METHODS
from getam.config.recipe import Recipe, load_recipe
from getam.config.training import ONE_PHASE, Positive, Precision, Section, Side, Training, Whole
from getam.lattice.settings import CrfSettings

SUPERVISED = "getam.training.supervised"
# A run's masks of images whose classes are known, below the folder of the split.
KNOWN_CLASSES = "masks_known_classes"


class Data(Section):
    """The training images.

    dataset: folder that `getam prepare` has written.
    split: images to train on. Their image-level labels are used, and their masks only where `taught_by` says `truth`.
    saliency: folder of <id>.png, as `getam saliency` writes it; null: every pixel is salient.
    """

    dataset: Path
    split: str = "train_aug"
    saliency: Path | None


class Teacher(Section):
    """Labels that another run has made for the training images.

    run: its folder; in the workflow's configuration its name.
    labels: `pseudo_labels`, or `masks`: its predictions by the CRF, restricted to the classes of the image.
    """

    run: Path
    labels: Literal["pseudo_labels", "masks"] = "pseudo_labels"

    @property
    def output(self) -> str:
        """The folder of the labels, below that of the run and the split."""
        return KNOWN_CLASSES if self.labels == "masks" else self.labels


class TimmBackbone(Section):
    """timm: name of a vision transformer of timm with a class token."""

    timm: Annotated[str, Field(pattern=r"^[\w.-]+$")]


class Network(Section):
    """Arguments of `build_model`; `{timm: NAME}` is its `timm:NAME`."""

    backbone: Literal[(*BACKBONES, DEEPLAB)] | TimmBackbone
    pretrained: bool | Path = True
    classifier: Literal["pooled", "class_token"] = "pooled"
    decoder_width: Whole = 256

    @property
    def name(self) -> str:
        """The backbone as `build_model` takes it."""
        return f"{TIMM}{self.backbone.timm}" if isinstance(self.backbone, TimmBackbone) else self.backbone


class Maps(Section):
    """Arguments of `activation_maps` and `refine_maps`.

    method: the formula of the maps (docs/explanation/method.md section 2).
    start_layer: first block whose map is summed; null: the recipe's.
    labels: pseudo labels come from label completion, or from CRFs as in RRM (the paper's Table 2).
    """

    method: Literal[METHODS] = "getam"
    start_layer: Annotated[int, Field(ge=0)] | None = None
    fusion: Literal[FUSIONS] = "sum"
    iterations: Annotated[int, Field(ge=0)] = ITERATIONS
    dilations: Annotated[tuple[Whole, ...], Field(min_length=1)] = DILATIONS
    labels: Literal["completion", "crf"] = "completion"


class Inference(Section):
    """sizes: sides of the squares that an image is resized to, as for `training.crop`. fit: `stretch` the image, or
    `pad` it, in its own size unless that is larger than the square. flip: predict each square mirrored, too.
    precision: as in training.
    """

    sizes: Annotated[tuple[Side, ...], Field(min_length=1)] = (256, 320, 480)
    fit: Literal["stretch", "pad"] = "stretch"
    flip: bool = False
    precision: Precision = "float32"


class Crf(Section):
    """Arguments of `dense_crf` on the test images, and `bgr`; see `CrfSettings`."""

    iterations: Annotated[int, Field(ge=0)] = CrfSettings.iterations
    gaussian: tuple[Positive, Positive] = CrfSettings.gaussian
    bilateral: tuple[Positive, Positive, Positive] = CrfSettings.bilateral
    backend: Literal["lattice", "pydensecrf"] = "lattice"
    negligible: Annotated[float, Field(ge=0, lt=1)] = CrfSettings.negligible
    bgr: bool = CrfSettings.bgr

    def settings(self) -> CrfSettings:
        """The settings as `getam.evaluation.masks` takes them."""
        return CrfSettings(**self.model_dump())


class Monitoring(Section):
    """How often training reports and saves; no result depends on it.

    history: steps between two rows of history.csv. sheet: steps between two picture sheets, 0 for none.
    checkpoint_minutes: minutes between two checkpoints.
    """

    history: Whole = 50
    sheet: Annotated[int, Field(ge=0)] = 1000
    checkpoint_minutes: Positive = 10.0


class Experiment(Section):
    """An experiment; see `load_experiment`. `recipe` is a preset's name, or a mapping with overrides of a preset.

    name: letters, digits, `_`, `.` and `-`; messages and tables use it.
    seed: of every random choice: initial weights, order, views, dropout.
    taught_by: null: the network learns from image-level labels, and makes its own pseudo labels. A teacher, or `truth`,
        the data set's masks: it learns from given labels, in one phase. `classification`, `joint_factor` and
        `dense_energy` of `training` then have no effect, and are 0, 1 and without weight.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data
    taught_by: Literal["truth"] | Teacher | None = None
    network: Network
    recipe: Recipe = Recipe()
    maps: Maps = Maps()
    training: Annotated[Training, Field(validate_default=True)] = Training()
    inference: Inference = Inference()
    crf: Crf = Crf()
    monitoring: Monitoring = Monitoring()

    @field_validator("recipe", mode="before")
    @classmethod
    def _whole_recipe(cls, value: Any) -> Recipe:
        settings = {"preset": value} if isinstance(value, str) else value
        if not isinstance(settings, Mapping):
            raise ValueError("recipe: expected released, paper, or a mapping with preset and overrides")
        overrides = dict(settings)
        preset = overrides.pop("preset", "released")
        if not isinstance(preset, str):
            raise ValueError(f"recipe.preset: expected released or paper, got {preset!r}")
        return load_recipe(preset, **overrides)

    @field_validator("taught_by", mode="before")
    @classmethod
    def _teacher_or_truth(cls, value: Any) -> Any:
        if value is None or value == "truth" or isinstance(value, Mapping):
            return value
        raise ValueError(f"taught_by: expected truth, or {{run: ..., labels: pseudo_labels or masks}}, not {value!r}")

    @field_validator("training")
    @classmethod
    def _phases_fit(cls, training: Training, others: ValidationInfo) -> Training:
        if others.data.get("taught_by") is not None:
            return training.model_copy(update=ONE_PHASE)
        if training.scale is not None:
            raise ValueError("training.scale is for given labels: it needs taught_by")
        return training

    @model_validator(mode="after")
    def _network_fits(self) -> "Experiment":
        if self.network.backbone == DEEPLAB:
            if self.taught_by is None:
                raise ValueError("network.backbone: deeplab_v2 learns from given labels alone: it needs taught_by")
            return self
        for key, sides in (("training.crop", [self.training.crop]), ("inference.sizes", self.inference.sizes)):
            if wrong := [side for side in sides if side % 32]:
                raise ValueError(f"{key}: {self.network.name} needs a multiple of 32, not {wrong[0]}")
        return self

    @model_validator(mode="after")
    def _start_layer_exists(self) -> "Experiment":
        spec = BACKBONES.get(self.network.name)
        if spec is not None and self.maps.start_layer is not None and self.maps.start_layer >= spec.depth:
            raise ValueError(f"maps.start_layer: {self.network.backbone} has blocks 0 to {spec.depth - 1}")
        return self

    @property
    def start_layer(self) -> int | None:
        """First block whose map is summed: `maps.start_layer`, or else the recipe's for the methods that have one."""
        if self.maps.start_layer is not None:
            return self.maps.start_layer
        by_recipe = self.maps.method in ("getam", "attention_gradient")
        return self.recipe.first_block(self.network.name) if by_recipe and self.has_maps else None

    def digest(self, *sections: str) -> str:
        """sha256 of some sections. Of a path only its presence counts; the files' content is compared elsewhere."""
        plain = self._plain()
        chosen = {section: plain[section] for section in sections}
        for section, key in _PATHS:
            inner = chosen.get(section)
            if isinstance(inner, dict) and isinstance(inner.get(key), str):
                inner[key] = "path"
        # At its default a setting that came later does not count: results of earlier versions stay valid.
        for *within, key in _LATER:
            inner = chosen.get(within[0], {}) if within else chosen
            if key in inner and inner[key] == _default(*within, key):
                del inner[key]
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()

    def network_arguments(self) -> dict[str, Any]:
        """Arguments of `build_model`, except num_classes and pretrained."""
        return {
            "backbone": self.network.name,
            "classifier": self.network.classifier,
            "decoder_width": self.network.decoder_width,
            "weight_standardisation": self.recipe.weight_standardisation,
        }

    @property
    def has_maps(self) -> bool:
        """Whether the network has attention, and so activation maps and pseudo labels."""
        return self.network.backbone != DEEPLAB

    def network_modules(self) -> tuple[str, ...]:
        """The modules that are imported by name for the network, for digests of code."""
        module = module_of(self.network.name)
        return () if module is None else (module,)

    def training_modules(self) -> tuple[str, ...]:
        """The modules that the training imports by name, for the digest of its code."""
        return self.network_modules() if self.taught_by is None else (SUPERVISED, *self.network_modules())

    def given_labels(self, split: str, masks: Path | None) -> Path | None:
        """The folder of the labels <id>.png that the network is taught; None: it makes its own.

        Args:
            split: name of the training split.
            masks: folder of its masks in the data set, if there are any.

        Raises:
            ValueError: `truth`, and there are none.
        """
        if self.taught_by is None:
            return None
        if isinstance(self.taught_by, Teacher):
            return self.taught_by.run / split / self.taught_by.output
        if masks is None:
            raise ValueError(f"taught_by: truth needs masks, and split {split!r} has none in {self.data.dataset}")
        return masks

    def as_yaml(self) -> str:
        """Every setting as YAML, in the order of the sections."""
        return yaml.safe_dump(self._plain(), sort_keys=False, default_flow_style=None, width=120)

    def _plain(self) -> dict[str, Any]:
        plain = json.loads(self.model_dump_json(exclude={"recipe"}))
        return {**plain, "recipe": asdict(self.recipe)}


_PATHS = (("data", "dataset"), ("data", "saliency"), ("network", "pretrained"), ("taught_by", "run"))
_LATER = (
    ("taught_by",),
    ("training", "steps"),
    ("training", "scale"),
    ("training", "bias_factor"),
    ("inference", "fit"),
)


def _default(*keys: str) -> Any:
    model = Experiment
    for key in keys[:-1]:
        model = model.model_fields[key].annotation
    return model.model_fields[keys[-1]].default


# Files of a run's folder.
EXPERIMENT, WEIGHTS, PROVENANCE = "experiment.yaml", "weights.safetensors", "provenance.json"
HISTORY, TRAINING_LOCK = "history.csv", ".training.lock"
_TRAINING_SECTIONS = ("seed", "data", "taught_by", "network", "recipe", "maps", "training")


def training_digest(experiment: Experiment) -> str:
    """sha256 of every setting that the trained weights depend on."""
    return experiment.digest(*_TRAINING_SECTIONS)
