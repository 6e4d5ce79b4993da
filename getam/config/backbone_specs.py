"""The properties of each backbone; importable without torch and timm, which take seconds."""

from dataclasses import dataclass

from getam.utils.checks import suggestion


@dataclass(frozen=True)
class BackboneSpec:
    """The properties of a backbone.

    Attributes:
        timm_name: the timm model whose weights it starts from; None: built here and trained from scratch.
        stages: number of stages of the convolutional part that the decoder taps, before the blocks.
        blocks: indices of the tapped transformer blocks.
        widths: channels of the four taps, finest first.
        depth: number of blocks.
        paper_start_layer: first block whose map the paper sums.
    """

    timm_name: str | None
    stages: int
    blocks: tuple[int, ...]
    widths: tuple[int, int, int, int]
    depth: int = 12
    paper_start_layer: int = 0


def released_start_layer(depth: int) -> int:
    """First block whose map the released code sums: the last six are summed for every backbone."""
    return max(0, depth - 6)


_PLAIN = {"stages": 0, "blocks": (2, 5, 8, 11), "widths": (96, 192, 384, 768)}

BACKBONES: dict[str, BackboneSpec] = {
    "vitb_hybrid": BackboneSpec(
        "vit_base_r50_s16_384.orig_in21k_ft_in1k",
        stages=2,
        blocks=(8, 11),
        widths=(256, 512, 768, 768),
        paper_start_layer=6,
    ),
    "vitb": BackboneSpec("vit_base_patch16_384.orig_in21k_ft_in1k", **_PLAIN),
    "deit": BackboneSpec("deit_base_patch16_384.fb_in1k", **_PLAIN),
    "deit_distilled": BackboneSpec("deit_base_distilled_patch16_384.fb_in1k", **_PLAIN),
    "vit_tiny": BackboneSpec(
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        stages=0,
        blocks=(2, 5, 8, 11),
        widths=(24, 48, 96, 192),
    ),
    "vit_micro_hybrid": BackboneSpec(None, stages=2, blocks=(1, 3), widths=(48, 96, 96, 96), depth=4),
}


# The beginning of the name of a backbone that is any transformer of timm; its properties are known once it is built.
TIMM = "timm:"


# A network of its own, without attention.
DEEPLAB = "deeplab_v2"


def module_of(backbone: str) -> str | None:
    """The module of `deeplab_v2`, or of timm's backbones; None for those of `BACKBONES`, which share one.

    It is imported by name, which digests of code do not follow: a step with this backbone names it beside its own.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    if backbone.startswith(TIMM):
        return "getam.models.timm_backbones"
    if backbone == DEEPLAB:
        return "getam.models.deeplab"
    backbone_spec(backbone)
    return None


def backbone_spec(backbone: str) -> BackboneSpec:
    """The entry of `BACKBONES`. Raises ValueError for an unknown name; the message lists the known ones."""
    if backbone not in BACKBONES:
        raise ValueError(f"unknown backbone {backbone!r}; {suggestion(backbone, (*BACKBONES, DEEPLAB))}")
    return BACKBONES[backbone]
