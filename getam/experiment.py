"""One experiment: every setting that a number depends on, in one validated and fully resolved file.

A file names what deviates from the defaults; `load_experiment` fills in the rest. What depends on the machine alone
(number of processes, device) is no setting of an experiment but an option of the commands.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from getam.backbone_specs import BACKBONES
from getam.crf_settings import CrfSettings
from getam.files import write_text
from getam.names import DILATIONS, FUSIONS, ITERATIONS, METHODS
from getam.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from getam.network import SegmentationNetwork

_Whole = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0)]
_Fraction = Annotated[float, Field(ge=0, le=1)]
_Precision = Literal["float32", "tf32", "bfloat16"]
_Side = Annotated[int, Field(ge=32, multiple_of=32)]


class _Section(BaseModel):
    """Settings that cannot be changed; a key that does not exist and a value of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(_Section):
    """What is trained on.

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
    """Arguments of `activation_maps` and `refine_maps`; start_layer null is the recipe's.

    labels: how pseudo labels are made of the maps, by label completion or as RRM does it (Table 2).
    """

    method: Literal[METHODS] = "getam"
    start_layer: Annotated[int, Field(ge=0)] | None = None
    fusion: Literal[FUSIONS] = "sum"
    iterations: Annotated[int, Field(ge=0)] = ITERATIONS
    dilations: tuple[_Whole, ...] = DILATIONS
    labels: Literal["completion", "crf"] = "completion"


class DenseEnergy(_Section):
    """Arguments of `DenseEnergyLoss`; weight 0 leaves the loss out."""

    weight: Annotated[float, Field(ge=0)] = 1e-7
    sigma_rgb: _Positive = 15.0
    sigma_xy: _Positive = 100.0
    scale: Annotated[float, Field(gt=0, le=1)] = 0.5


class Training(_Section):
    """Two phases (docs/method.md section 5): classification alone, then everything.

    crop: side of the random views. batch: images of one step, of all processes together.
    epochs: of both phases; classification: the part of the steps that the first phase takes.
    optimiser: `sgd` with the recipe's momentum and weight decay, or `adamw` with `weight_decay`.
    rate: at first; it falls as (1 - step / steps)^power, in the joint phase times `joint_factor`, and rises linearly
        over the first `warmup` steps. What is not the backbone, and begins with random weights, has `head_factor` times
        this rate.
    split_cross_entropy: one mean over the background and one over the classes (VOC), or one mean (COCO).
    precision: `float32`, `tf32` (NVIDIA's shortened products) or `bfloat16` (autocast).
    channels_last, compile, fused_optimiser: faster on a GPU; results differ by rounding.
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
    precision: _Precision = "float32"
    channels_last: bool = False
    compile: bool = False
    fused_optimiser: bool = False

    @model_validator(mode="after")
    def _weight_decay_fits(self) -> "Training":
        if self.optimiser == "sgd" and self.weight_decay is not None:
            raise ValueError("weight_decay is adamw's; that of sgd is the recipe's (recipe.optimiser)")
        if self.optimiser == "adamw" and self.weight_decay is None:
            raise ValueError("weight_decay: adamw needs one, such as 0.01")
        return self


class Inference(_Section):
    """sizes: sides of the squares that an image is resized to; flip: each of them mirrored, too; precision: as in
    training.
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
        """As `getam.postprocessing` takes them."""
        return CrfSettings(**self.model_dump())


class Monitoring(_Section):
    """How training is watched and saved; no result depends on it.

    history: steps between two lines of history.csv. sheet: steps between two picture sheets, 0 for none.
    checkpoint_minutes: between two checkpoints.
    """

    history: _Whole = 50
    sheet: Annotated[int, Field(ge=0)] = 1000
    checkpoint_minutes: _Positive = 10.0


class Experiment(_Section):
    """An experiment; see `load_experiment`. `recipe` is a preset's name, or its name with settings that differ."""

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
            raise ValueError("expected released, paper, or a mapping with preset and the settings that differ")
        overrides = dict(settings)
        return load_recipe(overrides.pop("preset", "released"), **overrides)

    @model_validator(mode="after")
    def _start_layer_exists(self) -> "Experiment":
        depth = BACKBONES[self.network.backbone].depth
        if self.maps.start_layer is not None and self.maps.start_layer >= depth:
            raise ValueError(f"maps.start_layer: {self.network.backbone} has blocks 0 to {depth - 1}")
        return self

    @property
    def start_layer(self) -> int | None:
        """First block whose map is summed: the experiment's own, else the recipe's for the methods it concerns."""
        if self.maps.start_layer is not None:
            return self.maps.start_layer
        by_recipe = self.maps.method in ("getam", "attention_gradient")
        return self.recipe.first_block(self.network.backbone) if by_recipe else None

    def digest(self, *sections: str) -> str:
        """sha256 of some sections; without where files lie, as what is in them is what matters."""
        chosen = {section: self._plain()[section] for section in sections}
        for section, key in (("data", "dataset"), ("data", "saliency"), ("network", "pretrained")):
            chosen.get(section, {}).pop(key, None)
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()

    def build_network(self, num_classes: int, pretrained: bool = True) -> "SegmentationNetwork":
        """The network before training; `pretrained` False leaves its ImageNet weights out."""
        from getam.network import build_model  # with torch and timm, which settings alone need not wait for

        return build_model(
            self.network.backbone,
            num_classes,
            self.network.pretrained if pretrained else False,
            classifier=self.network.classifier,
            decoder_width=self.network.decoder_width,
            weight_standardisation=self.recipe.weight_standardisation,
        )

    def as_yaml(self) -> str:
        """Every setting, in the order of the sections."""
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


def load_experiment(source: Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Experiment:
    """An experiment from its file or a dictionary, every setting checked.

    Args:
        overrides: `section.key` -> value, which go before those of the source.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no YAML, or a key or a value is wrong; all of them are named.
    """
    if isinstance(source, Mapping):
        name, settings = "experiment", json.loads(json.dumps(source, default=str))
    else:
        name, settings = str(source), _read_yaml(Path(source))
    for key, value in (overrides or {}).items():
        _set(settings, key, value)
    try:
        # By way of JSON, whose strict reading takes lists for tuples and strings for paths, but no string for a number.
        return Experiment.model_validate_json(json.dumps(settings))
    except ValidationError as error:
        # A value that may be of two types gives an error for each.
        explained = {_location(problem): _explained(problem) for problem in reversed(error.errors())}
        raise ValueError(f"{name}: " + "; ".join(reversed(explained.values()))) from error


def write_experiment(folder: Path, experiment: Experiment) -> None:
    """Writes experiment.yaml, which `load_experiment` reads back as the same experiment."""
    write_text(folder / EXPERIMENT, experiment.as_yaml())


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: PyYAML takes 1e-3 for a string."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), "+-0123456789")


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; a yaml.YAMLError where it is none."""
    return yaml.load(text, _Loader)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no experiment file {path}")
    try:
        settings = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: expected name, data, network, ..., found {type(settings).__name__}")
    return settings


def _set(settings: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = settings.setdefault(section, {})
        if section == "recipe" and isinstance(inner, str):
            inner = settings[section] = {"preset": inner}
        if not isinstance(inner, dict):
            raise ValueError(f"{key}: {section} is no section")
        settings = inner
    settings[last] = value


def _location(error: Mapping[str, Any]) -> tuple[str, ...]:
    parts = [str(part) for part in error["loc"]]
    return tuple(part for part in parts if "[" not in part and part not in ("bool", "int", "float"))


def _explained(error: Mapping[str, Any]) -> str:
    *sections, last = _location(error) or ("",)
    where = ".".join((*sections, last))
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = _keys(sections)
        close = get_close_matches(last, known, 1)
        return f"{where}: no such setting; " + (f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}")
    if error["type"] == "missing":
        return f"{where}: missing"
    return f"{where}: {message}, not {error['input']!r}" if where and error["type"] != "value_error" else message


def _keys(sections: list[str]) -> list[str]:
    model = Experiment
    for section in sections:
        model = model.model_fields[section].annotation
    return list(model.model_fields) if issubclass(model, BaseModel) else [field.name for field in fields(model)]
