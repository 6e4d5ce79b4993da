"""A copy of a network's buffers, which a step changes before anyone knows whether it will be complete."""

from itertools import groupby

import torch
from torch import Tensor, nn


class BufferCopy:
    """The values of all buffers (the statistics of BatchNorm) before the step that is running.

    The copies are made once and overwritten, all buffers of a type by one operation.
    """

    def __init__(self, network: nn.Module):
        of_type = sorted(network.buffers(), key=lambda buffer: str(buffer.dtype))
        self._groups = [list(group) for _, group in groupby(of_type, key=lambda buffer: buffer.dtype)]
        self._copies: list[list[Tensor]] = [[buffer.clone() for buffer in group] for group in self._groups]
        self._taken = False

    @torch.no_grad()
    def take(self) -> None:
        """Copies the buffers, as a step begins."""
        for copies, group in zip(self._copies, self._groups, strict=True):
            torch._foreach_copy_(copies, group)
        self._taken = True

    def drop(self) -> None:
        """Forgets the copy, as the step is complete."""
        self._taken = False

    @torch.no_grad()
    def restore(self) -> None:
        """Undoes what the running step has changed; nothing where no step is running."""
        if self._taken:
            for copies, group in zip(self._copies, self._groups, strict=True):
                torch._foreach_copy_(group, copies)
