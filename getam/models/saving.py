"""Saves and loads networks as safetensors, together with the arguments that build them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
from safetensors.torch import save_file

from getam.models.network import SegmentationNetwork, build_model
from getam.models.weights import CheckpointError, load_exactly, read_state_dict
from getam.utils.files import written

# The only key of a file's metadata. With several keys safetensors writes them in a random order, and the same training
# must give the same bytes.
_DESCRIPTION = "getam"


def save_network(
    path: Path, network: SegmentationNetwork, classes: Sequence[str], about: Mapping[str, object], **arguments: object
) -> None:
    """Writes a network's weights as safetensors, whole or not at all, with its description for `load_network`.

    Args:
        classes: names of the C classes.
        about: further metadata, such as the digests of everything the weights depend on.
        arguments: of `build_model`, except num_classes and pretrained.
    """
    description = {"arguments": arguments, "classes": list(classes), "about": about}
    # The file has no memory formats such as channels_last.
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with written(path) as unfinished:
        save_file(state, unfinished, {_DESCRIPTION: json.dumps(description, sort_keys=True)})


def load_network(path: str | Path) -> tuple[SegmentationNetwork, tuple[str, ...]]:
    """Loads a file that `save_network` has written: the network in eval mode, and the names of its classes.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or another program has written it.

    >>> network, classes = load_network(train(experiment, folder, device="cpu", workers=0))
    >>> classes
    ('striped disc', 'checkered square', 'framed triangle', 'banded star', 'grainy cross')
    """
    described = read_description(path)
    if not described:
        raise CheckpointError(f"{path} does not describe its network: `getam train` has not written it")
    network = build_model(num_classes=len(described["classes"]), **described["arguments"])
    load_exactly(network, read_state_dict(path), str(path))
    return network.eval(), tuple(described["classes"])


def read_description(path: str | Path) -> dict:
    """The description in a file (`arguments`, `classes`, `about`); empty if another program has written it.

    Raises:
        FileNotFoundError, CheckpointError: there is no such file, or it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weight file {path}")
    try:
        with safetensors.safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {}).get(_DESCRIPTION, "{}"))
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
