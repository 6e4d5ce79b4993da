"""Weights as networks: the authors' released checkpoints, and our own files, which say what network they are of."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
from safetensors.torch import save_file

from getam.models.network import SegmentationNetwork, build_model
from getam.models.weights import CheckpointError, load_exactly, read_state_dict
from getam.utils.files import written

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
