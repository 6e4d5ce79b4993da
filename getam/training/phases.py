"""The two phases of training as modules that map a batch to its losses (docs/explanation/method.md sections 2 to 5)."""

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor, nn

from getam.config.experiment import Experiment
from getam.config.training import Training
from getam.constants import UNKNOWN
from getam.method.activation import ActivationRecord
from getam.method.losses import DenseEnergyLoss, classification_loss, cross_entropy_loss, saliency_loss
from getam.method.present import PresentClasses
from getam.method.pseudo_labels import make_targets, saliency_target
from getam.models.backbones import normalise_images
from getam.models.network import SegmentationNetwork
from getam.models.runtime import at_least_float32, autocast
from getam.utils.hardware import has_c_compiler

_log = logging.getLogger(__name__)
LOSSES = ("classification", "cross_entropy", "saliency", "dense_energy")


class Batch(NamedTuple):
    """A step's images, on the device.

    image_rgb uint8 (B, 3, S, S); saliency uint8, valid bool, both (B, S, S); labels float32 (B, C); classes: those of
    `labels`, on the host; None: read from there.
    """

    image_rgb: Tensor
    saliency: Tensor
    valid: Tensor
    labels: Tensor
    classes: PresentClasses | None = None

    @classmethod
    def on(cls, device: torch.device, loaded: Mapping[str, Tensor]) -> "Batch":
        """A batch of the loader, copied to the device without waiting."""
        tensors = (loaded[key].to(device, non_blocking=True) for key in cls._fields[:-1])
        return cls(*tensors, PresentClasses.of(loaded["labels"]))

    @property
    def network_input(self) -> Tensor:
        """Normalised images, exactly zero on the padding."""
        return normalise_images(self.image_rgb) * self.valid[:, None]


def network_input(batch: Batch, settings: Training) -> Tensor:
    """The input of the network in the memory format of the settings."""
    images = batch.network_input
    return images.contiguous(memory_format=torch.channels_last) if settings.channels_last else images


class StepOutput(NamedTuple):
    """Losses of a step, scalars by names of `LOSSES`; and maps, labels and logits of phases that have them.

    maps: refined and normalised, (B, C, S, S), of the joint phase. pixels: pseudo labels, or given ones, uint8
    (B, S, S). seg_logits: (B, C + 1, S, S).
    """

    losses: dict[str, Tensor]
    maps: Tensor | None = None
    pixels: Tensor | None = None
    seg_logits: Tensor | None = None

    @property
    def phase(self) -> str:
        """The name of the phase: `classification`, `joint` or `supervised`."""
        if self.pixels is None:
            return "classification"
        return "supervised" if self.maps is None else "joint"

    @property
    def total(self) -> Tensor:
        """The sum of the losses, which training minimises."""
        return sum(self.losses.values())


class ClassificationPhase(nn.Module):
    """The classification loss alone, without running the decoder."""

    def __init__(self, network: SegmentationNetwork, experiment: Experiment):
        super().__init__()
        self.network = network
        self._precision = experiment.training.precision

    def forward(self, images: Tensor, batch: Batch) -> StepOutput:
        """`images` is `batch.network_input`."""
        with autocast(images.device, self._precision):
            class_logits = self.network.classify(images)
        return StepOutput({"classification": classification_loss(class_logits, batch.labels)})


class JointPhase(nn.Module):
    """All losses, with pseudo labels from the maps of the same forward.

    One forward of the network serves the maps and the losses; everything stays on its device.
    """

    def __init__(self, network: SegmentationNetwork, experiment: Experiment):
        super().__init__()
        self.network = network
        self._training, self._recipe, self._maps = experiment.training, experiment.recipe, experiment.maps
        self._record = ActivationRecord(
            network, self._maps.method, experiment.start_layer, self._maps.fusion, self._recipe.heads
        )
        energy = self._training.dense_energy
        self._dense_energy = DenseEnergyLoss(**energy.model_dump()) if energy.weight else None

    def forward(self, images: Tensor, batch: Batch) -> StepOutput:
        """`images` is `batch.network_input`."""
        with autocast(images.device, self._training.precision), self._record:
            class_logits, seg_logits = self.network(images)
        activation = self._record.maps(class_logits, batch.labels, batch.classes)
        maps, pixels, mined = make_targets(
            activation,
            batch.image_rgb,
            batch.saliency,
            batch.labels,
            batch.valid,
            self._maps,
            self._recipe,
            batch.classes,
        )
        target = saliency_target(batch.saliency, mined, self._recipe)
        seg_logits = at_least_float32(seg_logits)
        counted = batch.valid if self._recipe.padding == "paper" else None
        losses = {
            "classification": classification_loss(class_logits, batch.labels),
            "cross_entropy": cross_entropy_loss(seg_logits, pixels, self._training.split_cross_entropy),
            "saliency": saliency_loss(seg_logits, target, counted),
        }
        if self._dense_energy is not None:
            losses["dense_energy"] = self._dense_energy(batch.image_rgb, seg_logits.softmax(1), batch.valid, pixels)
        return StepOutput(losses, maps, pixels, seg_logits.detach())


def labelled_fraction(output: StepOutput) -> Tensor:
    """The fraction of the pixels with a label other than unknown, a scalar."""
    return (output.pixels != UNKNOWN).float().mean()


def prepare_for_speed(network: SegmentationNetwork, experiment: Experiment, device: torch.device) -> None:
    """Applies the settings channels_last and compile.

    Attention is not compiled, because maps record it during the forward pass; nor is anything behind it whose gradient
    maps ask for: backward of a compiled module computes the gradients of its weights, too.
    """
    settings, maps = experiment.training, experiment.maps
    if settings.channels_last:
        network.to(memory_format=torch.channels_last)
    if not compiles(settings, device):
        return
    from torch._functorch import config  # imports the compiler, which takes seconds

    # Maps run backward several times through one graph, which donated buffers do not allow.
    config.donated_buffer = False
    recorded_from = ActivationRecord(network, maps.method, experiment.start_layer, maps.fusion).start_layer
    for module in (
        network.decoder,
        network.squeeze_excite,
        network.segmentation_head,
        *(block.mlp for block in network.vit.blocks[:recorded_from]),
    ):
        module.compile()


def compiles(settings: Training, device: torch.device) -> bool:
    """Whether the network is compiled; where the setting is `possible`, the log says what is missing."""
    if settings.compile != "possible":
        return settings.compile
    missing = [
        what
        for what, there in (
            ("a GPU", device.type == "cuda"),
            ("Triton", find_spec("triton") is not None),
            ("a C compiler", has_c_compiler()),
        )
        if not there
    ]
    if missing:
        _log.info("training.compile: not possible here, without %s", " and ".join(missing))
    return not missing
