"""The settings of a training, and the kinds of values that all settings share."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

Whole = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Precision = Literal["float32", "tf32", "bfloat16"]


def _side(value: int) -> int:
    if value % 32 not in (0, 1):
        raise PydanticCustomError("side", "Input should be a multiple of 32")
    return value


Side = Annotated[int, Field(ge=32), AfterValidator(_side)]


class Section(BaseModel):
    """Immutable settings; unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DenseEnergy(Section):
    """Arguments of `DenseEnergyLoss`; weight 0 leaves the loss out."""

    weight: Annotated[float, Field(ge=0)] = 1e-7
    sigma_rgb: Positive = 15.0
    sigma_xy: Positive = 100.0
    scale: Annotated[float, Field(gt=0, le=1)] = 0.5


_FAST = {"precision": "bfloat16", "channels_last": True, "compile": "possible", "fused_optimiser": True}


class Training(Section):
    """Two phases (docs/explanation/method.md section 5): classification alone, then all losses.

    crop: side of the random views, a multiple of 32; of deeplab_v2 also one more.
    batch: images of one step, of all processes together.
    epochs: of both phases; steps: the same as a number of steps, which overrides epochs. classification: fraction of
        the steps that belong to the first phase.
    scale: only with given labels (`taught_by`): random factors of an image's own size, from the first to the second;
        null: its long side is about the crop's.
    optimiser: `sgd` with the recipe's momentum and weight decay, or `adamw` with `weight_decay`.
    rate: initial learning rate; it falls as (1 - step / steps)^`power`, is multiplied by `joint_factor` in the joint
        phase, and rises linearly over the first `warmup` steps. Parameters outside the backbone, which start from
        random weights, have `head_factor` times this rate, and their biases `bias_factor` times that.
    split_cross_entropy: one mean over the background and one over the classes (VOC), or one mean over both (COCO).
    speed: a word for the next four settings: `exact` is their defaults, `fast` is bfloat16, channels_last, compile
        `possible`, and fused_optimiser. Settings given beside it count. Only the four are kept.
    precision: `float32`, `tf32` (products of TensorFloat-32) or `bfloat16` (autocast).
    channels_last, compile, fused_optimiser: faster on a GPU; results differ by rounding. compile `possible`: on a GPU
        with Triton and a C compiler.
    """

    crop: Side = 256
    batch: Whole = 4
    epochs: Whole = 20
    steps: Whole | None = None
    # Not strict: after a validator before it, a value is no longer JSON, whose lists are accepted for tuples.
    scale: Annotated[tuple[Positive, Positive], Field(strict=False)] | None = None
    classification: Fraction = 0.5
    optimiser: Literal["sgd", "adamw"] = "sgd"
    rate: Positive = 0.04
    power: Annotated[float, Field(ge=0)] = 0.9
    joint_factor: Positive = 0.1
    head_factor: Positive = 1.0
    bias_factor: Positive = 1.0
    warmup: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    split_cross_entropy: bool = True
    dense_energy: DenseEnergy = DenseEnergy()
    speed: Annotated[Literal["exact", "fast"] | None, Field(exclude=True)] = None
    precision: Precision = "float32"
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

    @field_validator("scale")
    @classmethod
    def _scale_ascends(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(f"training.scale: expected the smaller factor first, not {list(value)}")
        return value

    @model_validator(mode="after")
    def _weight_decay_fits(self) -> "Training":
        if self.optimiser == "sgd" and self.weight_decay is not None:
            raise ValueError("weight_decay is for adamw; that of sgd is set by the recipe (recipe.optimiser)")
        if self.optimiser == "adamw" and self.weight_decay is None:
            raise ValueError("weight_decay: adamw needs one, such as 0.01")
        return self


# Settings of the two phases, for a training that has one.
ONE_PHASE = {"classification": 0.0, "joint_factor": 1.0, "dense_energy": DenseEnergy(weight=0.0)}


def first_joint_step(training: Training, steps: int) -> int:
    """The first of `steps` steps that belongs to the joint phase."""
    return int(training.classification * steps)
