"""Which classes each image of a batch has, in the memory of the host: a GPU would have to be waited for."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PresentClasses:
    """The classes of each image, in index order.

    Plain numbers, so that they stay on the host where DistributedDataParallel moves a batch to its device.
    """

    of_images: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, labels: Tensor) -> "PresentClasses":
        """From labels (B, C), above 0 where the image has the class; of labels on a GPU the host waits for them."""
        rows = (labels > 0).tolist()
        return cls(tuple(tuple(c for c, present in enumerate(row) if present) for row in rows))

    @property
    def most(self) -> int:
        """The largest number of classes in one image."""
        return max(map(len, self.of_images), default=0)

    def pairs(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Image and class of every present class, int64, image by image."""
        return _indices([(image, c) for image, classes in enumerate(self.of_images) for c in classes], device)

    def of_rank(self, rank: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The images that have more than `rank` classes, and that class of each, int64."""
        having = [(image, classes[rank]) for image, classes in enumerate(self.of_images) if len(classes) > rank]
        return _indices(having, device)


def _indices(pairs: list[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    images, classes = torch.tensor(pairs, dtype=torch.long).view(-1, 2).T.to(device, non_blocking=True)
    return images, classes
