"""How a network runs: training or evaluation mode, and the precision of its arithmetic."""

from collections.abc import Iterator
from contextlib import contextmanager

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
def tf32_allowed(precision: str) -> Iterator[None]:
    """Allows or forbids TF32 inside the block; by default torch uses it for convolutions on a GPU.

    precision: `float32` forbids TF32; `tf32` allows it, and so does `bfloat16`, for operations that `autocast` leaves
        in float32.
    """
    allowed = precision != "float32"
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """torch's autocast to bfloat16, enabled if that is the precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32; float64 is returned unchanged."""
    return x if x.dtype == torch.float64 else x.float()
