"""Weight files: read without running their code, loaded only if every name fits."""

import argparse
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from getam.utils.checks import shortened

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")
# What training scripts save beside the weights, and what runs no code: options and single numbers.
_HARMLESS = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")),
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
]


class CheckpointError(ValueError):
    """A weight file that cannot be read, or whose content does not fit."""


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors or a pth file into a flat dictionary of tensors on the CPU.

    A pth file is unpickled with ``weights_only=True``: code inside is never run. Removed are a dictionary that wraps
    the state dict (under `state_dict_ema`, `model_ema`, `state_dict`, `model_state_dict` or `model`; averaged weights
    first, as timm does), and the prefixes `module.` of DataParallel and `_orig_mod.` of torch.compile.

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
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), None)
        if reason is None:
            raise CheckpointError(f"{path} is not a PyTorch weight file; a web page saved by mistake?") from error
        raise CheckpointError(
            f"{path} is refused: it holds more than tensors, and loading it could run code. {reason} If you trust it, "
            "save its tensors alone: torch.save(torch.load(FILE, weights_only=False)['model'], NEW)"
        ) from error
    except Exception as error:
        # The exception of a damaged zip archive or pickle stream depends on the place of the damage.
        raise CheckpointError(f"{path} cannot be read; is it truncated? ({error!r})") from error


def as_state_dict(content: object, source: str) -> dict[str, Tensor]:
    """Remove the wrappers of a loaded checkpoint; see `read_state_dict`. `source` names it in the CheckpointError."""
    while isinstance(content, Mapping) and (
        wrapper := next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
    ):
        content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{source}: expected a dictionary of tensors, found {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{source}: expected only tensors, found {name!r}: {type(value).__name__}")
    state = dict(content)
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def without_prefix(state: Mapping[str, Tensor], known: Iterable[str]) -> dict[str, Tensor]:
    """The state without a prefix that all names share, such as `model.` of Lightning, if a known name then appears."""
    known = set(known)
    stripped = dict(state)
    while not known & stripped.keys():
        first, dot, _ = next(iter(stripped)).partition(".")
        if not dot or not all(name.startswith(first + dot) for name in stripped):
            return dict(state)
        stripped = {name.removeprefix(first + dot): value for name, value in stripped.items()}
    return stripped


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
    state = without_prefix(state, names.values())
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
