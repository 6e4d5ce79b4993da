"""Pseudo labels of whole images, without randomness: the labels that a trained network would learn from."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from getam.config.experiment import Experiment
from getam.data.augmentation import View, centred_view
from getam.data.dataset import Split
from getam.data.images import image_size, read_image, read_mask, write_mask
from getam.data.loading import inference_images
from getam.method.activation import activation_maps
from getam.method.pseudo_labels import make_targets
from getam.models.backbones import normalise_images
from getam.models.network import SegmentationNetwork
from getam.models.runtime import autocast, eval_mode, tf32_allowed


def label_files(
    network: SegmentationNetwork,
    split: Split,
    ids: Sequence[str],
    folder: Path,
    experiment: Experiment,
    batch: int = 4,
    workers: int = 0,
) -> Iterator[Path]:
    """Writes the pseudo labels of images whose classes are known as <id>.png and yields each path.

    Made as in training, but of the whole image: its long side is the crop's. Labels are resized to the image by the
    nearest pixel.

    Args:
        split: with image-level labels.
        ids: images of the split.
        folder: where <id>.png are written.
        batch: images that run through the network at once.
        workers: processes that read images.

    Raises:
        ValueError: the split has no labels, or a file cannot be read.
    """
    for names, view, labels, maps in activations(network, split, ids, experiment, batch, workers):
        targets = make_targets(
            maps, view.image_rgb, view.saliency, labels, view.valid, experiment.maps, experiment.recipe
        )
        for name, of_image, pixels in zip(names, view.unbatched(), targets.pixels, strict=True):
            path = folder / f"{name}.png"
            write_mask(path, _at_size(of_image.unpad(pixels), image_size(split.image(name))))
            yield path


def activations(
    network: SegmentationNetwork,
    split: Split,
    ids: Sequence[str],
    experiment: Experiment,
    batch: int = 4,
    workers: int = 0,
) -> Iterator[tuple[list[str], View, Tensor, Tensor]]:
    """Maps of images whose classes are known, made as in the experiment's training, but of centred whole images.

    Yields for each batch: ids; the centred views, stacked; labels (B, C); maps (B, C, h, w). Tensors are on the
    network's device.

    Raises:
        ValueError: the split has no labels, a file cannot be read, or maps are NaN or infinite.
    """
    if split.labels is None:
        raise ValueError(f"split {split.name!r} has no image-level labels")
    device, settings = next(network.parameters()).device, experiment.maps
    dataset = _Views(split, ids, experiment.data.saliency, experiment.training.crop)
    items = iter(inference_images(dataset, workers))
    with eval_mode(network), tf32_allowed(experiment.inference.precision):
        while chosen := list(islice(items, batch)):
            names, views, present = zip(*chosen, strict=True)
            view = View(*(torch.stack(parts).to(device) for parts in zip(*views, strict=True)))
            labels = torch.stack(present).to(device)
            with autocast(device, experiment.inference.precision):
                maps = activation_maps(
                    network,
                    normalise_images(view.image_rgb) * view.valid[:, None],
                    labels,
                    settings.method,
                    experiment.start_layer,
                    settings.fusion,
                    experiment.recipe.heads,
                ).float()
            finite = maps.isfinite().all(dim=(1, 2, 3)).tolist()
            if not all(finite):
                raise ValueError(f"the activation maps of {names[finite.index(False)]} are NaN or infinite")
            yield list(names), view, labels, maps


def _at_size(pixels: Tensor, size: tuple[int, int]) -> np.ndarray:
    """uint8 (h, w) -> (H, W), by the nearest pixel."""
    return F.interpolate(pixels.cpu()[None, None], size, mode="nearest-exact")[0, 0].numpy()


class _Views(Dataset):
    """(id, centred view, labels) of images of a split."""

    def __init__(self, split: Split, ids: Sequence[str], saliency: Path | None, crop: int):
        self._split, self._ids, self._saliency, self._crop = split, ids, saliency, crop
        self._labels = dict(zip(split.ids, torch.from_numpy(split.labels), strict=True))

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, i: int) -> tuple[str, View, Tensor]:
        name = self._ids[i]
        image = read_image(self._split.image(name))
        if self._saliency is None:
            saliency = np.full(image.shape[:2], 255, np.uint8)
        else:
            saliency = read_mask(self._saliency / f"{name}.png", image.shape[:2])
        return name, centred_view(image, saliency, self._crop), self._labels[name]
