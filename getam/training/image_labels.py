"""Training from image-level labels: the classification phase, then the joint phase (section 5 of the method)."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from getam.config.experiment import Experiment
from getam.data.dataset import Split
from getam.data.loading import TrainingImages
from getam.models.network import SegmentationNetwork
from getam.training.distributed import Replica
from getam.training.phases import Batch, ClassificationPhase, JointPhase, prepare_for_speed
from getam.training.rehearsal import rehearse_joint_step


class ImageLabelTraining:
    """What the trainer needs of this kind of training; `getam.training.supervised` has the same for given labels.

    Attributes:
        images: the samples.

    Raises:
        FileNotFoundError, ValueError: the split lacks saliency maps or image-level labels.
    """

    def __init__(self, experiment: Experiment, split: Split):
        self._experiment = experiment
        self.images = TrainingImages(split, experiment.data.saliency, experiment.training.crop, experiment.seed)
        self._most_classes = max(1, int(split.labels.sum(1).max()))
        self._classes = split.labels.shape[1]

    def prepare(self, network: SegmentationNetwork, device: torch.device) -> None:
        """Applies the settings for speed."""
        prepare_for_speed(network, self._experiment, device)

    def batch(self, device: torch.device, loaded: Mapping[str, Tensor]) -> Batch:
        """A batch of the loader on the device."""
        return Batch.on(device, loaded)

    def rehearse(self, network: SegmentationNetwork, images: int) -> None:
        """Runs the joint step once, with `images` images, before the first phase begins."""
        rehearse_joint_step(network, self._experiment, images, self._classes, self._most_classes)

    def phases(
        self, network: SegmentationNetwork, this: Replica, first: int, first_joint: int, last: int
    ) -> Iterator[tuple[nn.Module, range]]:
        """Each phase that is not over after `first` steps, and its steps before `last`."""
        classification = range(first, first_joint)
        if classification:
            yield this.data_parallel(ClassificationPhase(network, self._experiment), all_used=False), classification
        joint = range(max(first, first_joint), last)
        if joint:
            yield this.data_parallel(JointPhase(network, self._experiment), all_used=True), joint
