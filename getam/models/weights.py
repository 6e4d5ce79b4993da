"""Weight files: read without running their code, loaded only if every name fits."""

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from getam.utils.checks import shortened


class CheckpointError(ValueError):
    """A weight file that cannot be read, or whose content does not fit."""


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors or a pth file into a flat dictionary of tensors on the CPU.

    A pth file is unpickled with ``weights_only=True``: code inside is never run. A dictionary that wraps the state dict
    under `model` or `state_dict`, and the prefix `module.` of DataParallel, are removed.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is truncated, wants to run code, or is not a state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weight file {path}")
    if path.suffix == ".safetensors":
        try:
            content = safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
    else:
        content = _unpickle(path)
    return as_state_dict(content, str(path))


def _unpickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), None)
        if reason is None:
            raise CheckpointError(f"{path} is not a PyTorch weight file; a web page saved by mistake?") from error
        raise CheckpointError(
            f"{path} is refused: it holds more than tensors, and loading it could run code. {reason}"
        ) from error
    except Exception as error:
        # The exception of a damaged zip archive or pickle stream depends on the place of the damage.
        raise CheckpointError(f"{path} cannot be read; is it truncated? ({error!r})") from error


def as_state_dict(content: object, source: str) -> dict[str, Tensor]:
    """Remove the wrappers of a loaded checkpoint; see `read_state_dict`. `source` names it in the CheckpointError."""
    for wrapper in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{source}: expected a dictionary of tensors, found {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{source}: expected only tensors, found {name!r}: {type(value).__name__}")
    if all(name.startswith("module.") for name in content):
        return {name.removeprefix("module."): value for name, value in content.items()}
    return dict(content)


def load_exactly(
    module: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    *,
    names: Mapping[str, str] | None = None,
    unused: Iterable[str] = (),
) -> None:
    """Load `state` into `module`; either every name and shape fits, or nothing is loaded.

    Args:
        source: what to call the state dict in errors.
        names: the module's name -> the name in `state`; names left out are the same in both.
        unused: regular expressions of names in `state` that are known and not loaded.

    Raises:
        CheckpointError: a name is missing or unknown, a shape differs, or a tensor holds NaN or infinity.
    """
    expected = module.state_dict()
    names = {name: (names or {}).get(name, name) for name in expected}
    problems = _list("lacks", [theirs for theirs in names.values() if theirs not in state])
    known = set(names.values())
    patterns = [re.compile(pattern) for pattern in unused]
    strangers = [
        name for name in state if name not in known and not any(pattern.fullmatch(name) for pattern in patterns)
    ]
    problems += _list("holds unknown", strangers)
    shared = {ours: theirs for ours, theirs in names.items() if theirs in state}
    problems += _list(
        "differs in shape:",
        [
            f"{theirs} {tuple(state[theirs].shape)} where {tuple(expected[ours].shape)} is expected"
            for ours, theirs in shared.items()
            if state[theirs].shape != expected[ours].shape
        ],
    )
    if not problems:
        broken = [theirs for theirs in shared.values() if not state[theirs].isfinite().all()]
        problems = _list("holds NaN or infinity in", broken)
    if problems:
        raise CheckpointError(f"{source} does not fit: it {'; it '.join(problems)}")
    with torch.no_grad():
        for ours, theirs in names.items():
            expected[ours].copy_(state[theirs])


def _list(what: str, names: list[str]) -> list[str]:
    return [f"{what} {shortened(names, 4)}"] if names else []


def load_pretrained(vit: nn.Module, path: str | Path) -> None:
    """Load a file of a timm model's ImageNet weights into the transformer of a network.

    Its 1000-class head is not loaded, nor its final norm where the network has none.

    Raises:
        FileNotFoundError, CheckpointError: see `read_state_dict` and `load_exactly`.
    """
    unused = [r"head\..*", r"head_dist\..*", r"pre_logits\..*"]
    if isinstance(vit.norm, nn.Identity):
        unused.append(r"norm\..*")
    load_exactly(vit, read_state_dict(path), str(path), unused=unused)
