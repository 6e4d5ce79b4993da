"""Weights as networks: the authors' released checkpoints, and our own files, which say what network they are of."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
from safetensors.torch import save_file
from torch import Tensor

from getam.backbone_specs import backbone_spec
from getam.files import written
from getam.network import SegmentationNetwork, build_model
from getam.weights import CheckpointError, as_state_dict, load_exactly, read_state_dict

# Our names as the released files have them.
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

# In the released files, and without effect on the released network's output.
_UNUSED = [
    r"pretrained\.model\.norm\.(weight|bias)",
    r"pretrained\.model\.head(_dist)?\.(weight|bias)",
    r"scratch\.refinenet4\.resConfUnit1\..*",
]


def load_released_checkpoint(
    source: str | Path | Mapping[str, Tensor], backbone: str, num_classes: int = 20
) -> SegmentationNetwork:
    """The network of one of the authors' checkpoints, in eval mode, with their weight standardisation.

    `vitb` and `deit` have the same names and shapes, so a file of the one loads as the other.

    Args:
        source: path of the file, or its state dict.
        backbone: vitb_hybrid, vitb, deit or deit_distilled.
        num_classes: 20 for VOC, 80 for COCO.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file cannot be read safely, belongs to another backbone or number of classes, or has a name
            or a shape too many, too few or other than expected.
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
    """What the released files call a parameter or buffer of `SegmentationNetwork`."""
    for ours, released in _RELEASED_NAMES:
        renamed, count = re.subn(ours, released, name)
        if count:
            return renamed
    raise KeyError(name)


def _check_kind(state: Mapping[str, Tensor], name: str, backbone: str, num_classes: int) -> None:
    """Say in one line what is wrong with a file of another kind, before names are compared one by one."""
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


# The one key of a file's metadata, under which our own weights say what they are of: safetensors writes several keys in
# another order each time, and the same training is to give the same bytes.
_DESCRIPTION = "getam"


def save_network(
    path: Path, network: SegmentationNetwork, classes: Sequence[str], about: Mapping[str, object], **arguments: object
) -> None:
    """Writes weights as safetensors, whole or not at all, with what `load_network` has to know.

    Args:
        classes: names of the C classes.
        about: what else the file is to say of itself.
        arguments: those of `build_model`, but for num_classes and pretrained.
    """
    description = {"arguments": arguments, "classes": list(classes), "about": about}
    # Another memory format is no format of the file.
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with written(path) as unfinished:
        save_file(state, unfinished, {_DESCRIPTION: json.dumps(description, sort_keys=True)})


def load_network(path: str | Path) -> tuple[SegmentationNetwork, tuple[str, ...]]:
    """The network of a file that `save_network` has written, in eval mode, and its classes.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or no such file.
    """
    described = read_description(path)
    if not described:
        raise CheckpointError(f"{path} does not say what network it is of: `getam train` has not written it")
    network = build_model(num_classes=len(described["classes"]), **described["arguments"])
    load_exactly(network, read_state_dict(path), str(path))
    return network.eval(), tuple(described["classes"])


def read_description(path: str | Path) -> dict:
    """What `save_network` was told of a file; empty if another program has written it. Raises as `load_network`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weight file {path}")
    try:
        with safetensors.safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {}).get(_DESCRIPTION, "{}"))
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
