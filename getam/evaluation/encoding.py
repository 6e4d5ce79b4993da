"""Probabilities as small whole numbers, which deflate compresses well.

Logarithms are rounded to steps of 1/2048, and each number is the difference to its neighbours. Neighbouring logits are
similar, because they come from a coarser grid, so most differences are small. The CRF works with logarithms: a step is
as exact for p = 0.001 as for p = 1.
"""

from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

_STEPS = 2048  # per factor e
_LEAST = 1e-3  # labels below this at every pixel are left out
_MOST = 2**16 - 1  # the code of p = 0
Array = TypeVar("Array", np.ndarray, Tensor)


class Encoded(NamedTuple):
    """Probabilities of one image, in memory of the CPU.

    Attributes:
        labels: uint8 (K,), the labels with p >= 0.001 at some pixel; the others count as 0.
        code: uint16 (K, H, W), -log p in steps, as differences of neighbours.
        count: C + 1, the number of labels.
    """

    labels: np.ndarray
    code: np.ndarray
    count: int


def encode(path: Path, probabilities: np.ndarray | Tensor) -> Encoded:
    """Encodes float32 (C + 1, H, W) where it is: an array or tensor of the CPU by NumPy, any other on its device.

    torch rounds logarithms otherwise than NumPy, so that one of some ten thousand numbers is another by a step.

    Raises:
        ValueError: a value is NaN or infinite: the argmax of such a pixel would be the background. It names `path`.
    """
    if isinstance(probabilities, Tensor):
        if probabilities.device.type != "cpu":
            return _encode_on_device(path, probabilities)
        probabilities = probabilities.numpy()
    _check_finite(path, np.isfinite(probabilities).all())
    labels = np.flatnonzero(probabilities.max((1, 2)) >= _LEAST)
    steps = probabilities[labels]
    # In place where possible: most of the time goes into memory access.
    with np.errstate(divide="ignore"):
        np.log(steps, out=steps)
    steps *= -_STEPS
    code = np.minimum(np.rint(steps, out=steps), _MOST, out=steps).astype(np.uint16).view(np.int16)
    return Encoded(labels.astype(np.uint8), _differences(code).view(np.uint16), len(probabilities))


@torch.inference_mode()
def _encode_on_device(path: Path, probabilities: Tensor) -> Encoded:
    _check_finite(path, bool(probabilities.isfinite().all()))
    labels = (probabilities.amax((1, 2)) >= _LEAST).nonzero()[:, 0]
    steps = probabilities.index_select(0, labels).log_().mul_(-_STEPS).round_().clamp_(max=_MOST)
    # Through int32: a float above 32767 has no int16.
    code = _on_cpu(_differences(steps.to(torch.int32).to(torch.int16)))
    return Encoded(labels.cpu().numpy().astype(np.uint8), code.numpy().view(np.uint16), len(probabilities))


def _on_cpu(values: Tensor) -> Tensor:
    """In pinned memory, which a GPU writes to at full speed."""
    copied = torch.empty(values.shape, dtype=values.dtype, pin_memory=values.is_cuda)
    return copied.copy_(values)


def _check_finite(path: Path, finite: bool) -> None:
    if not finite:
        raise ValueError(f"{path}: the network's output is NaN or infinite; the precision float32 may help")


def _differences(code: Array) -> Array:
    """int16 (K, H, W), which is overwritten: 0, -1, 1, -2, .. of the differences as 0, 1, 2, 3, .."""
    # Numbers wrap around, and wrap back when they are summed again.
    code[:, 1:] = code[:, 1:] - code[:, :-1]
    code[:, :, 1:] = code[:, :, 1:] - code[:, :, :-1]
    sign = code >> 15
    code <<= 1
    code ^= sign
    return code


def decode(encoded: Encoded) -> np.ndarray:
    """float32 (C + 1, H, W), which sum to 1 at each pixel; the code is overwritten."""
    labels, code, count = encoded
    odd = code & 1
    code >>= 1
    code ^= np.negative(odd, out=odd)
    for axis in (2, 1):
        np.cumsum(code, axis=axis, dtype=np.uint16, out=code)
    kept = code.astype(np.float32)
    kept /= -_STEPS
    np.exp(kept, out=kept)
    kept /= kept.sum(0)
    probabilities = np.zeros((count, *code.shape[1:]), np.float32)
    probabilities[labels] = kept
    return probabilities
