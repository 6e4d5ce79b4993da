"""The mode that a network runs in: training or evaluation, and how exactly it calculates."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is in the mode it was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def tf32_allowed(precision: str) -> Iterator[None]:
    """NVIDIA's shortened products inside, or not: torch uses them for convolutions unless told otherwise.

    precision: `float32` is exact; `tf32`, and `bfloat16` for what `autocast` leaves in float32, are not.
    """
    shortened = precision != "float32"
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = shortened
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """torch's autocast to bfloat16, if that is the precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or as it is where it is float64."""
    return x if x.dtype == torch.float64 else x.float()
