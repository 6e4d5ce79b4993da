"""Training with given labels: masks of the data set, or labels that another network has made.

The trainer imports it by name, so that an edit here makes no training from image-level labels stale.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from getam.config.experiment import Experiment
from getam.data.dataset import Split
from getam.data.labelled import LabelledImages
from getam.method.losses import classification_loss, cross_entropy_loss
from getam.models.runtime import at_least_float32, autocast
from getam.training.distributed import Replica
from getam.training.phases import Batch, StepOutput, compiles


class LabelledBatch(NamedTuple):
    """A step's images, on the device.

    image_rgb uint8 (B, 3, S, S); pixels uint8, valid bool, both (B, S, S); labels float32 (B, C).
    """

    image_rgb: Tensor
    pixels: Tensor
    valid: Tensor
    labels: Tensor

    network_input = Batch.network_input


class SupervisedPhase(nn.Module):
    """The cross entropy with the given labels; for GETAM's own network also the classification loss.

    The latter trains the classifier, so that the network has activation maps like any other. DeepLab v2 has a cross
    entropy for each of its scales and for their maximum, on the grid of the logits; the sum is the loss.
    """

    def __init__(self, network: nn.Module, experiment: Experiment):
        super().__init__()
        self.network = network
        self._training = experiment.training

    def forward(self, images: Tensor, batch: LabelledBatch) -> StepOutput:
        """`images` is `batch.network_input`."""
        split = self._training.split_cross_entropy
        with autocast(images.device, self._training.precision):
            if hasattr(self.network, "scales"):
                return self._of_scales([at_least_float32(logits) for logits in self.network.scales(images)], batch)
            class_logits, seg_logits = self.network(images)
        seg_logits = at_least_float32(seg_logits)
        losses = {
            "classification": classification_loss(class_logits, batch.labels),
            "cross_entropy": cross_entropy_loss(seg_logits, batch.pixels, split),
        }
        return StepOutput(losses, pixels=batch.pixels, seg_logits=seg_logits.detach())

    def _of_scales(self, scales: list[Tensor], batch: LabelledBatch) -> StepOutput:
        split = self._training.split_cross_entropy
        losses = [cross_entropy_loss(logits, shrunk(batch.pixels, logits.shape[-2:]), split) for logits in scales]
        seg_logits = F.interpolate(scales[-1].detach(), batch.pixels.shape[-2:], mode="bilinear", align_corners=True)
        return StepOutput({"cross_entropy": sum(losses)}, pixels=batch.pixels, seg_logits=seg_logits)


def shrunk(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (B, H, W) at the positions of logits (h, w), corners on corners: every 8th pixel of 321 for 41."""
    rows, columns = (
        torch.linspace(0, whole - 1, part, device=labels.device, dtype=torch.float64).round().long()
        for whole, part in zip(labels.shape[-2:], size, strict=True)
    )
    return labels[:, rows][:, :, columns]


class SupervisedTraining:
    """What the trainer needs of a training with given labels, in the place of `ImageLabelTraining`.

    Attributes:
        images: the samples.

    Raises:
        FileNotFoundError: the split lacks its given labels.
        ValueError: it has no image-level labels, or no masks for `truth`.
    """

    def __init__(self, experiment: Experiment, split: Split):
        self._experiment = experiment
        training, folder = experiment.training, experiment.given_labels(split.name, split.masks)
        self.images = LabelledImages(split, folder, training.crop, experiment.seed, training.scale)

    def prepare(self, network: nn.Module, device: torch.device) -> None:
        """Applies the settings channels_last and compile, the latter to the backbone: no attention is recorded."""
        settings = self._experiment.training
        if settings.channels_last:
            network.to(memory_format=torch.channels_last)
        if compiles(settings, device):
            network.backbone.compile()

    def batch(self, device: torch.device, loaded: Mapping[str, Tensor]) -> LabelledBatch:
        """A batch of the loader, copied to the device without waiting."""
        return LabelledBatch(*(loaded[key].to(device, non_blocking=True) for key in LabelledBatch._fields))

    def rehearse(self, network: nn.Module, images: int) -> None:
        """Nothing: the first step shows the errors that a later one would have."""

    def phases(
        self, network: nn.Module, this: Replica, first: int, first_joint: int, last: int
    ) -> Iterator[tuple[nn.Module, range]]:
        """The only phase, and its steps from `first` to before `last`."""
        if first < last:
            yield this.data_parallel(SupervisedPhase(network, self._experiment), all_used=True), range(first, last)
