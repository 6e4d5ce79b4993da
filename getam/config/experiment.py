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
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from getam.config.backbone_specs import BACKBONES
from getam.config.choices import DILATIONS, FUSIONS, ITERATIONS, METHODS
from getam.config.recipe import Recipe, load_recipe
from getam.lattice.settings import CrfSettings

_Whole = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0)]
_Fraction = Annotated[float, Field(ge=0, le=1)]
_Precision = Literal["float32", "tf32", "bfloat16"]
_Side = Annotated[int, Field(ge=32, multiple_of=32)]


class _Section(BaseModel):
    """Immutable settings; unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(_Section):
    """The training images.

    dataset: folder that `getam prepare` has written.
    split: images to train on; their image-level labels are used, never their masks.
    saliency: folder of <id>.png, as `getam saliency` writes it; null: every pixel is salient.
    """

    dataset: Path
    split: str = "train_aug"
    saliency: Path | None


class Network(_Section):
    """Arguments of `build_model`."""

    backbone: Literal[tuple(BACKBONES)]
    pretrained: bool | Path = True
    classifier: Literal["pooled", "class_token"] = "pooled"
    decoder_width: _Whole = 256


class Maps(_Section):
    """Arguments of `activation_maps` and `refine_maps`.

    method: the formula of the maps (docs/explanation/method.md section 2).
    start_layer: first block whose map is summed; null: the recipe's.
    labels: pseudo labels come from label completion, or from CRFs as in RRM (the paper's Table 2).
    """

    method: Literal[METHODS] = "getam"
    start_layer: Annotated[int, Field(ge=0)] | None = None
    fusion: Literal[FUSIONS] = "sum"
    iterations: Annotated[int, Field(ge=0)] = ITERATIONS
    dilations: Annotated[tuple[_Whole, ...], Field(min_length=1)] = DILATIONS
    labels: Literal["completion", "crf"] = "completion"


class DenseEnergy(_Section):
    """Arguments of `DenseEnergyLoss`; weight 0 leaves the loss out."""

    weight: Annotated[float, Field(ge=0)] = 1e-7
    sigma_rgb: _Positive = 15.0
    sigma_xy: _Positive = 100.0
    scale: Annotated[float, Field(gt=0, le=1)] = 0.5


_FAST = {"precision": "bfloat16", "channels_last": True, "compile": "possible", "fused_optimiser": True}


class Training(_Section):
    """Two phases (docs/explanation/method.md section 5): classification alone, then all losses.

    crop: side of the random views. batch: images of one step, of all processes together.
    epochs: of both phases; classification: fraction of the steps that belong to the first phase.
    optimiser: `sgd` with the recipe's momentum and weight decay, or `adamw` with `weight_decay`.
    rate: initial learning rate; it falls as (1 - step / steps)^`power`, is multiplied by `joint_factor` in the joint
        phase, and rises linearly over the first `warmup` steps. Parameters outside the backbone, which start from
        random weights, have `head_factor` times this rate.
    split_cross_entropy: one mean over the background and one over the classes (VOC), or one mean over both (COCO).
    speed: a word for the next four settings: `exact` is their defaults, `fast` is bfloat16, channels_last, compile
        `possible`, and fused_optimiser. Settings given beside it count. Only the four are kept.
    precision: `float32`, `tf32` (products of TensorFloat-32) or `bfloat16` (autocast).
    channels_last, compile, fused_optimiser: faster on a GPU; results differ by rounding. compile `possible`: on a GPU
        with Triton and a C compiler.
    """

    crop: _Side = 256
    batch: _Whole = 4
    epochs: _Whole = 20
    classification: _Fraction = 0.5
    optimiser: Literal["sgd", "adamw"] = "sgd"
    rate: _Positive = 0.04
    power: Annotated[float, Field(ge=0)] = 0.9
    joint_factor: _Positive = 0.1
    head_factor: _Positive = 1.0
    warmup: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    split_cross_entropy: bool = True
    dense_energy: DenseEnergy = DenseEnergy()
    speed: Annotated[Literal["exact", "fast"] | None, Field(exclude=True)] = None
    precision: _Precision = "float32"
    channels_last: bool = False
    compile: bool | Literal["possible"] = False
    fused_optimiser: bool = False

    @model_validator(mode="before")
    @classmethod
    def _settings_of_speed(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("speed") in ("exact", "fast"):
            chosen = _FAST if value["speed"] == "fast" else {}
            return {**chosen, **{key: given for key, given in value.items() if key != "speed"}}
        return value

    @model_validator(mode="after")
    def _weight_decay_fits(self) -> "Training":
        if self.optimiser == "sgd" and self.weight_decay is not None:
            raise ValueError("weight_decay is for adamw; that of sgd is set by the recipe (recipe.optimiser)")
        if self.optimiser == "adamw" and self.weight_decay is None:
            raise ValueError("weight_decay: adamw needs one, such as 0.01")
        return self


class Inference(_Section):
    """sizes: sides of the squares that an image is resized to. flip: predict each of them mirrored, too.
    precision: as in training.
    """

    sizes: Annotated[tuple[_Side, ...], Field(min_length=1)] = (256, 320, 480)
    flip: bool = False
    precision: _Precision = "float32"


class Crf(_Section):
    """Arguments of `dense_crf` on the test images, and `bgr`; see `CrfSettings`."""

    iterations: Annotated[int, Field(ge=0)] = CrfSettings.iterations
    gaussian: tuple[_Positive, _Positive] = CrfSettings.gaussian
    bilateral: tuple[_Positive, _Positive, _Positive] = CrfSettings.bilateral
    backend: Literal["lattice", "pydensecrf"] = "lattice"
    negligible: Annotated[float, Field(ge=0, lt=1)] = CrfSettings.negligible
    bgr: bool = CrfSettings.bgr

    def settings(self) -> CrfSettings:
        """The settings as `getam.evaluation.masks` takes them."""
        return CrfSettings(**self.model_dump())


class Monitoring(_Section):
    """How often training reports and saves; no result depends on it.

    history: steps between two rows of history.csv. sheet: steps between two picture sheets, 0 for none.
    checkpoint_minutes: minutes between two checkpoints.
    """

    history: _Whole = 50
    sheet: Annotated[int, Field(ge=0)] = 1000
    checkpoint_minutes: _Positive = 10.0


class Experiment(_Section):
    """An experiment; see `load_experiment`. `recipe` is a preset's name, or a mapping with overrides of a preset.

    name: letters, digits, `_`, `.` and `-`; messages and tables use it.
    seed: of every random choice: initial weights, order, views, dropout.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data
    network: Network
    recipe: Recipe = Recipe()
    maps: Maps = Maps()
    training: Training = Training()
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

    @model_validator(mode="after")
    def _start_layer_exists(self) -> "Experiment":
        depth = BACKBONES[self.network.backbone].depth
        if self.maps.start_layer is not None and self.maps.start_layer >= depth:
            raise ValueError(f"maps.start_layer: {self.network.backbone} has blocks 0 to {depth - 1}")
        return self

    @property
    def start_layer(self) -> int | None:
        """First block whose map is summed: `maps.start_layer`, or else the recipe's for the methods that have one."""
        if self.maps.start_layer is not None:
            return self.maps.start_layer
        by_recipe = self.maps.method in ("getam", "attention_gradient")
        return self.recipe.first_block(self.network.backbone) if by_recipe else None

    def digest(self, *sections: str) -> str:
        """sha256 of some sections. Of a path only its presence counts; the files' content is compared elsewhere."""
        chosen = {section: self._plain()[section] for section in sections}
        for section, key in (("data", "dataset"), ("data", "saliency"), ("network", "pretrained")):
            if isinstance(chosen.get(section, {}).get(key), str):
                chosen[section][key] = "path"
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()

    def network_arguments(self) -> dict[str, Any]:
        """Arguments of `build_model`, except num_classes and pretrained."""
        return {
            "backbone": self.network.backbone,
            "classifier": self.network.classifier,
            "decoder_width": self.network.decoder_width,
            "weight_standardisation": self.recipe.weight_standardisation,
        }

    def as_yaml(self) -> str:
        """Every setting as YAML, in the order of the sections."""
        return yaml.safe_dump(self._plain(), sort_keys=False, default_flow_style=None, width=120)

    def _plain(self) -> dict[str, Any]:
        plain = json.loads(self.model_dump_json(exclude={"recipe"}))
        return {**plain, "recipe": asdict(self.recipe)}


# Files of a run's folder.
EXPERIMENT, WEIGHTS, PROVENANCE = "experiment.yaml", "weights.safetensors", "provenance.json"
_TRAINING_SECTIONS = ("seed", "data", "network", "recipe", "maps", "training")


def training_digest(experiment: Experiment) -> str:
    """sha256 of every setting that the trained weights depend on."""
    return experiment.digest(*_TRAINING_SECTIONS)
