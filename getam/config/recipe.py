"""The settings in which the released code and the paper differ (docs/explanation/method.md section 8)."""

import sys
from dataclasses import dataclass, fields, replace
from typing import Literal

from getam.config.backbone_specs import TIMM, backbone_spec, released_start_layer
from getam.utils.checks import suggestion

Side = Literal["released", "paper"]


@dataclass(frozen=True)
class Recipe:
    """The settings in which the authors' released code and their paper differ, and those of label completion.

    The first seven are `released` or `paper`; the others are the same in both.

    Attributes:
        optimiser: SGD with momentum 5e-4 and no weight decay (the released code passes the weight decay where SGD
            expects the momentum), or with 0.9 and 5e-4 (as intended).
        saliency_target: background everywhere except on mined pixels, or 1 - saliency.
        mining_conflict: a pixel mined for two classes gets the class of lower index, or becomes 255.
        start_layer: maps are summed from block 6 for every backbone, or from 6 for the hybrid and 0 for the others.
        heads: the product of two means over the heads, or the heads averaged first
            (docs/explanation/method.md section 2).
        padding: the padded border counts as pixels, or is left out of maps, labels, quantile and losses.
        weight_standardisation: of the hybrid: (w - mean) / (std + 1e-5), or timm's.
        background_power: alpha of the background score (1 - max_c M_c)^alpha.
        mining_quantile: position, among a map's positive values, above which a pixel is mined (VOC 0.9, COCO 0.95).
        opening: side of the box of the morphological opening, in pixels; 0 for none.

    >>> Recipe(opening=0).first_block("vitb_hybrid")
    6
    """

    optimiser: Side = "released"
    saliency_target: Side = "released"
    mining_conflict: Side = "released"
    start_layer: Side = "released"
    heads: Side = "released"
    padding: Side = "released"
    weight_standardisation: Side = "released"
    background_power: float = 32
    mining_quantile: float = 0.9
    opening: int = 10

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is Side and value not in ("released", "paper"):
                raise ValueError(f"recipe: {field.name} is 'released' or 'paper', not {value!r}")
            if field.type is not Side and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"recipe: {field.name} is a number, not {value!r}")
            if field.type is not Side and not abs(value) <= sys.float_info.max:
                raise ValueError(f"recipe: {field.name} is a finite number, not {value}")
        if self.background_power <= 0:
            raise ValueError(f"recipe: background_power is above 0, not {self.background_power}")
        if not 0 <= self.mining_quantile <= 1:
            raise ValueError(f"recipe: mining_quantile is between 0 and 1, not {self.mining_quantile}")
        if self.opening < 0 or self.opening != int(self.opening):
            raise ValueError(f"recipe: opening is a whole number of pixels, not {self.opening}")

    @property
    def momentum(self) -> float:
        """SGD's momentum."""
        return 5e-4 if self.optimiser == "released" else 0.9

    @property
    def weight_decay(self) -> float:
        """SGD's weight decay."""
        return 0.0 if self.optimiser == "released" else 5e-4

    def first_block(self, backbone: str) -> int | None:
        """The first block whose map is summed, of a backbone as `build_model` takes it.

        None: of a transformer whose depth is not known here, the sixth from the end.
        """
        if backbone.startswith(TIMM):
            return None if self.start_layer == "released" else 0
        spec = backbone_spec(backbone)
        return released_start_layer(spec.depth) if self.start_layer == "released" else spec.paper_start_layer


PRESETS = {
    "released": Recipe(),
    "paper": Recipe(**{field.name: "paper" for field in fields(Recipe) if field.type is Side}),
}


def load_recipe(name: str, **overrides: str | float) -> Recipe:
    """The preset `released` or `paper`, with single settings overridden.

    >>> load_recipe("released", saliency_target="paper").saliency_target
    'paper'

    Raises:
        ValueError: an unknown preset, an unknown setting or an impossible value.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown recipe {name!r}; {suggestion(name, PRESETS)}")
    known = [field.name for field in fields(Recipe)]
    for key in overrides:
        if key not in known:
            raise ValueError(f"unknown setting {key!r} of a recipe; {suggestion(key, known)}")
    return replace(PRESETS[name], **overrides)
