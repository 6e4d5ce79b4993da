"""Activation maps of one image of any size, for our networks and for vision transformers of timm."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from getam.constants import IMAGE_MEAN, IMAGE_STD
from getam.data.images import check_image
from getam.data.loading import resized
from getam.method.activation import activation_maps
from getam.method.pamr import refine_maps
from getam.models.classifiers import with_classifier
from getam.models.network import SegmentationNetwork
from getam.models.runtime import eval_mode, tf32_allowed

_SIZE = 320  # of a SegmentationNetwork, the middle one of the test sizes
_PROBABLE = {True: 0.5, False: 0.1}  # True: a SegmentationNetwork's independent classes; False: a softmax over all


def explain(
    network: nn.Module,
    image_rgb: np.ndarray | Tensor,
    classes: Sequence[int] | None = None,
    method: str = "getam",
    *,
    start_layer: int | None = None,
    fusion: str = "sum",
    heads: str = "released",
    size: int | None = None,
    refine: bool = True,
) -> dict[int, Tensor]:
    """Where a network sees classes in an image.

    Args:
        network: a SegmentationNetwork, or a vision transformer of timm with a class token and its own head.
        image_rgb: uint8 (H, W, 3).
        classes: indices from 0; None: the classes that the network finds probable, at least the most probable one.
        method: a name of `getam.config.choices.METHODS`.
        start_layer, fusion, heads: as `activation_maps` takes them.
        size: side of the square that the image is resized to; None: 320, or the height and width of timm's network.
        refine: refine the maps along the image's edges (PAMR).

    Returns:
        class -> float32 (H, W) between 0 and 1, on the CPU; the most probable class first if `classes` is None.

    Raises:
        ValueError: another shape or type of image, or a class that the network does not have.
        TypeError: a part of the network is missing that maps need; the message names it.

    >>> network = build_model("vit_micro_hybrid", num_classes=5, decoder_width=16)
    >>> maps = explain(network, np.zeros((48, 64, 3), np.uint8), classes=[3], size=64)
    >>> maps[3].shape
    torch.Size([48, 64])
    """
    image = check_image(image_rgb)
    classifier = with_classifier(network)
    ours = isinstance(network, SegmentationNetwork)
    device = next(network.parameters()).device
    channels = classifier.vit.patch_embed.proj.in_channels if not ours else 3
    if channels != 3:
        raise ValueError(f"network: expected a network of RGB images, this one has {channels} input channels")
    sides = (size, size) if size else (_SIZE, _SIZE) if ours else classifier.vit.patch_embed.img_size
    rgb = torch.from_numpy(resized(image, sides)).to(device).permute(2, 0, 1)[None].float()
    images = _normalised(network, rgb).to(next(network.parameters()).dtype)
    with eval_mode(network), tf32_allowed("float32"):
        with torch.no_grad():
            logits = classifier.classify(images)[0].float()
        chosen = _probable(logits, ours) if classes is None else _checked(classes, len(logits))
        labels = torch.zeros(1, len(logits), device=device)
        labels[0, chosen] = 1
        maps = activation_maps(network, images, labels, method, start_layer, fusion, heads)[:, chosen].float()
    if refine:
        maps = refine_maps(maps, rgb)
    maps = F.interpolate(maps, image.shape[:2], mode="bilinear", align_corners=False)
    # Without the 1e-5 that `normalise_maps` adds: it would make pictures fade where gradients are small.
    maps = maps / maps.amax((2, 3), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    return dict(zip(chosen, maps[0].cpu(), strict=True))


def _normalised(network: nn.Module, rgb: Tensor) -> Tensor:
    """(1, 3, S, S) of 0..255 to the network's input; a timm network has its own mean and deviation."""
    described = getattr(network, "pretrained_cfg", {})
    mean, std = (
        torch.tensor(described.get(key, default), device=rgb.device).view(3, 1, 1)
        for key, default in (("mean", IMAGE_MEAN), ("std", IMAGE_STD))
    )
    return (rgb / 255 - mean) / std


def _probable(logits: Tensor, independent: bool) -> list[int]:
    probabilities = logits.sigmoid() if independent else logits.softmax(0)
    ranked = probabilities.argsort(descending=True).tolist()
    return [c for c in ranked if probabilities[c] >= _PROBABLE[independent]] or ranked[:1]


def _checked(classes: Sequence[int], count: int) -> list[int]:
    for index in classes:
        if index not in range(count):
            raise ValueError(f"classes: expected 0 to {count - 1}, got {index!r}")
    if len(set(classes)) < len(classes) or not classes:
        raise ValueError(f"classes: expected different ones and at least one, got {list(classes)}")
    return list(classes)
