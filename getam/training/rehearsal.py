"""A throwaway joint step before training, so that errors of the joint phase appear before hours of the first phase."""

import torch

from getam.config.experiment import Experiment
from getam.models.network import SegmentationNetwork
from getam.training.phases import Batch, JointPhase, network_input


def rehearse_joint_step(
    network: SegmentationNetwork, experiment: Experiment, images: int, classes: int, most_classes: int
) -> None:
    """Runs forward and backward of one joint step on the largest case, and restores the network bit for bit.

    Every image is noise, which needs the largest lattice, and has as many classes as any image of the data, each of
    which needs a backward pass for its map.

    Args:
        images: images of this process in one step.
        classes: number of classes C.
        most_classes: largest number of classes in one image.

    Raises:
        ValueError: crop and batch are too small for batch normalisation.
        RuntimeError: from torch, for instance if the memory is too small.
    """
    device, crop = next(network.parameters()).device, experiment.training.crop
    chance = torch.Generator().manual_seed(0)
    labels = torch.zeros(images, classes)
    labels[:, :most_classes] = 1
    worst = {
        "image_rgb": torch.randint(0, 256, (images, 3, crop, crop), dtype=torch.uint8, generator=chance),
        "saliency": torch.full((images, crop, crop), 255, dtype=torch.uint8),
        "valid": torch.ones(images, crop, crop, dtype=torch.bool),
        "labels": labels,
    }
    batch = Batch.on(device, worst)
    buffers = [buffer.clone() for buffer in network.buffers()]
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            JointPhase(network, experiment)(network_input(batch, experiment.training), batch).total.backward()
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"training.crop ({crop}) and training.batch ({images} images per process) are too small: batch "
            "normalisation needs more than one value per channel. Raise one of them"
        ) from error
    finally:
        for parameter in network.parameters():
            parameter.grad = None
        for buffer, value in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(value)
