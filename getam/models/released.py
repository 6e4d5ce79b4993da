"""Loads the authors' released checkpoints."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from getam.config.backbone_specs import backbone_spec
from getam.models.network import SegmentationNetwork, build_model
from getam.models.weights import CheckpointError, as_state_dict, load_exactly, read_state_dict

# Our parameter names -> those of the released files.
_RELEASED_NAMES = [
    (r"^backbone\.vit\.", "pretrained.model."),
    (r"^reassemble\.(\d)\.readout\.project\.", r"pretrained.act_postprocess\1.0.project.0."),
    (r"^reassemble\.(\d)\.project\.", r"pretrained.act_postprocess\1.3."),
    (r"^reassemble\.(\d)\.resample\.", r"pretrained.act_postprocess\1.4."),
    (r"^decoder\.project\.(\d)\.", r"scratch.layer\1_rn."),
    (r"^decoder\.fusion\.(\d)\.skip_unit\.", r"scratch.refinenet\1.resConfUnit1."),
    (r"^decoder\.fusion\.(\d)\.unit\.", r"scratch.refinenet\1.resConfUnit2."),
    (r"^decoder\.fusion\.(\d)\.out\.", r"scratch.refinenet\1.out_conv."),
    (r"^squeeze_excite\.body\.", "cam_module.body."),
    (r"^squeeze_excite\.gate\.", "cam_module.fc."),
    (r"^segmentation_head\.", "scratch.output_conv."),
    (r"^classifier\.linear\.", "cls_head."),
]

# In the released files, but without effect on the released network's output.
_UNUSED = [
    r"pretrained\.model\.norm\.(weight|bias)",
    r"pretrained\.model\.head(_dist)?\.(weight|bias)",
    r"scratch\.refinenet4\.resConfUnit1\..*",
]


def load_released_checkpoint(
    source: str | Path | Mapping[str, Tensor], backbone: str, num_classes: int = 20
) -> SegmentationNetwork:
    """Loads one of the authors' checkpoints: the network in eval mode, with their weight standardisation.

    `vitb` and `deit` have the same names and shapes, so a file of one also loads as the other.

    Args:
        source: path of the file, or its state dict.
        backbone: vitb_hybrid, vitb, deit or deit_distilled.
        num_classes: 20 for VOC, 80 for COCO.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file cannot be read safely, is of another backbone or number of classes, or has missing or
            unknown names or unexpected shapes.

    >>> load_released_checkpoint(build_model("vit_micro_hybrid", 20).state_dict(), "vitb")
    Traceback (most recent call last):
    ...
    getam.models.weights.CheckpointError: state dict is not one of the released GETAM checkpoints: ...
    """
    backbone_spec(backbone)
    if isinstance(source, Mapping):
        name, state = "state dict", as_state_dict(source, "state dict")
    else:
        name, state = str(source), read_state_dict(source)
    _check_kind(state, name, backbone, num_classes)
    network = build_model(backbone, num_classes, weight_standardisation="released")
    names = {ours: released_name(ours) for ours in network.state_dict()}
    load_exactly(network, state, name, names=names, unused=_UNUSED)
    return network.eval()


def released_name(name: str) -> str:
    """The name in the released files of a parameter or buffer of `SegmentationNetwork`."""
    for ours, released in _RELEASED_NAMES:
        renamed, count = re.subn(ours, released, name)
        if count:
            return renamed
    raise KeyError(name)


def _check_kind(state: Mapping[str, Tensor], name: str, backbone: str, num_classes: int) -> None:
    """Refuses files of another kind with a clear message, before names are compared one by one."""
    if "cls_head.weight" not in state or "pretrained.model.pos_embed" not in state:
        raise CheckpointError(
            f"{name} is not one of the released GETAM checkpoints: its first name is {next(iter(state))}"
        )
    if "pretrained.model.patch_embed.backbone.stem.conv.weight" in state:
        found = "vitb_hybrid"
    elif "pretrained.model.dist_token" in state:
        found = "deit_distilled"
    else:
        found = "vitb or deit"
    if backbone not in found.split(" or "):
        raise CheckpointError(f"{name} is a checkpoint of {found}, not of {backbone}")
    classes = len(state["cls_head.weight"])
    if classes != num_classes:
        raise CheckpointError(f"{name} has {classes} classes, not {num_classes}")
