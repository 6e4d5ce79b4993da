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

    Only torch's newer settings (`fp32_precision`) are read and written: torch raises an error where they are mixed with
    `allow_tf32`, and the caller may have used either.

    Args:
        precision: `float32` forbids TF32; `tf32` allows it, and so does `bfloat16`, for operations that `autocast`
            leaves in float32.
    """
    products = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    before = [product.fp32_precision for product in products]
    try:
        for product in products:
            product.fp32_precision = "ieee" if precision == "float32" else "tf32"
        yield
    finally:
        for product, value in zip(products, before, strict=True):
            product.fp32_precision = value


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """torch's autocast to bfloat16, enabled if that is the precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32; float64 is returned unchanged."""
    return x if x.dtype == torch.float64 else x.float()
