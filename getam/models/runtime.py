"""How a network runs: training or evaluation mode, and the precision of its arithmetic."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Switches to eval mode inside the block; afterwards every module has its former mode."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def without_checkpointing(network: nn.Module) -> Iterator[None]:
    """Turns timm's gradient checkpointing off inside the block: it would run attention without a graph."""
    modules = [module for module in network.modules() if getattr(module, "grad_checkpointing", False)]
    for module in modules:
        module.grad_checkpointing = False
    try:
        yield
    finally:
        for module in modules:
            module.grad_checkpointing = True


@contextmanager
def tf32_allowed(precision: str) -> Iterator[None]:
    """Allows or forbids TF32 inside the block; torch allows it for convolutions by default.

    Only torch's newer settings (`fp32_precision`) are read and written: torch raises an error if they contradict
    `allow_tf32`, and the caller may have used either. Afterwards they are as before.

    Args:
        precision: `float32` forbids TF32, and oneDNN's shorter types on the CPU; `tf32` allows it, and so does
            `bfloat16`, for operations that `autocast` leaves in float32.
    """
    backends = torch.backends
    # The first one is for all operations of a GPU that have no value of their own.
    cuda = (backends.cudnn, backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    onednn = (backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn)
    exact = precision == "float32"
    with ExitStack() as undo:
        for switch in (*cuda, *onednn) if exact else cuda:
            _set(undo, switch, "ieee" if exact else "tf32")
        yield


def _set(undo: ExitStack, switch, value: str) -> None:
    if switch.fp32_precision != value:
        undo.callback(setattr, switch, "fp32_precision", _own_value(switch))
        switch.fp32_precision = value


def _own_value(switch) -> str:
    """`fp32_precision` of a switch itself. If that is "none", reading it gives the value for all backends."""
    for_all = torch.backends.fp32_precision
    torch.backends.fp32_precision = "none"
    try:
        return switch.fp32_precision
    finally:
        torch.backends.fp32_precision = for_all


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """torch's autocast to bfloat16, enabled if that is the precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32; float64 is returned unchanged."""
    return x if x.dtype == torch.float64 else x.float()
