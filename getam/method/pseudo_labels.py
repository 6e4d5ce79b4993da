"""Activation-aware label completion: pseudo labels from maps, saliency and image labels.

docs/explanation/method.md, section 3.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from getam.config.experiment import Maps
from getam.config.recipe import Recipe
from getam.constants import BACKGROUND, UNKNOWN
from getam.method.crf_labels import crf_labels
from getam.method.pamr import normalise_maps, refine_maps
from getam.method.present import PresentClasses
from getam.utils.checks import check_shape


def complete_labels(
    maps: Tensor,
    saliency: Tensor,
    labels: Tensor,
    recipe: Recipe,
    valid: Tensor | None = None,
    classes: PresentClasses | None = None,
) -> tuple[Tensor, Tensor]:
    """Label every pixel with one of its image's classes, 0 (background) or 255 (unknown).

    1. A pixel that is not salient is background. A salient one gets the class with the largest map M_c, or is unknown
       where the background score (1 - max_c M_c)^alpha is at least M_c.
    2. Mining: a background pixel gets a class if the class's map is above its threshold there. The threshold is the
       value at position int(quantile * n) of the map's n positive values in ascending order.
    3. Morphological opening of the pixels that are not background; pixels that it removes become background.

    Args:
        maps: normalised, (B, C, H, W).
        saliency: (B, H, W), above 0 is salient.
        labels: of the images, (B, C), above 0 where the class is present.
        recipe: see `Recipe`.
        valid: (B, H, W), above 0 on real pixels; None: all are real. It is used if the recipe leaves padding out:
            padded pixels become 255, and quantile and opening ignore them.
        classes: those of `labels` as lists; None: read from them, which may have to come from the device.

    Returns:
        labels: uint8, (B, H, W).
        mined: bool, (B, H, W): where a class was mined, before the opening.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: `recipe` is not a `Recipe`.

    >>> maps = torch.tensor([[[[0.9, 0.0], [0.2, 0.8]]]])  # one class, 2 x 2 pixels
    >>> saliency = torch.tensor([[[1, 1], [0, 1]]])
    >>> labels, mined = complete_labels(maps, saliency, torch.ones(1, 1), load_recipe("paper", opening=0))
    >>> labels
    tensor([[[  1, 255],
             [  0,   1]]], dtype=torch.uint8)
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe: expected a Recipe, as load_recipe returns it, got {recipe!r}")
    _check(maps, saliency, labels, valid)
    present = labels > 0
    leave_out = valid is not None and recipe.padding == "paper"
    real = valid > 0 if leave_out else torch.ones_like(saliency, dtype=torch.bool)
    pixels = _by_activation(maps, saliency, present, recipe.background_power)
    pairs = (classes or PresentClasses.of(labels)).pairs(maps.device)
    claimed = _claims(maps, pairs, real, recipe.mining_quantile) & (pixels == BACKGROUND)[:, None]
    mined = claimed.any(1)
    winner = _first(claimed)
    if recipe.mining_conflict == "paper":
        winner = winner.where(claimed.sum(1) == 1, UNKNOWN)
    pixels = pixels.where(~mined, winner)
    pixels = pixels.where(_opened(pixels != BACKGROUND, real, int(recipe.opening)), BACKGROUND)
    return pixels.where(real, UNKNOWN).to(torch.uint8), mined


def saliency_target(saliency: Tensor, mined: Tensor, recipe: Recipe) -> Tensor:
    """Target of the background probability, 0 or 1, float32 (B, H, W).

    `paper`: 1 where not salient. `released`: 1 except on mined pixels, because the released code overwrites the
    saliency map before using it (docs/explanation/method.md section 4).

    Args:
        saliency: (B, H, W), above 0 is salient.
        mined: (B, H, W), as `complete_labels` returns it.

    Raises:
        ValueError: shapes that differ.

    >>> saliency, mined = torch.tensor([[[1, 0, 0]]]), torch.tensor([[[False, False, True]]])
    >>> saliency_target(saliency, mined, load_recipe("paper"))
    tensor([[[0., 1., 1.]]])
    >>> saliency_target(saliency, mined, load_recipe("released"))
    tensor([[[1., 1., 0.]]])
    """
    if saliency.shape != mined.shape:
        raise ValueError(f"saliency {tuple(saliency.shape)} and mined {tuple(mined.shape)} differ in shape")
    foreground = mined if recipe.saliency_target == "released" else saliency > 0
    return 1 - foreground.float()


def _by_activation(maps: Tensor, saliency: Tensor, present: Tensor, alpha: float) -> Tensor:
    """Step 1: int64 (B, H, W)."""
    activation, index = maps.masked_fill(~present[:, :, None, None], 0).max(1)
    won = activation > (1 - activation) ** alpha
    return (index + 1).where(won, UNKNOWN).where(saliency > 0, BACKGROUND)


def _claims(maps: Tensor, pairs: tuple[Tensor, Tensor], real: Tensor, quantile: float) -> Tensor:
    """Step 2: where each present class is mined, bool (B, C, H, W)."""
    image, channel = pairs
    values = maps[image, channel].flatten(1)
    counted = (values > 0) & real[image].flatten(1)
    count = counted.sum(1)
    # In float64, as in Python's int(0.9 * n): in float32 the product can end up on the other side of a whole number.
    position = (quantile * count.double()).long()
    ascending = values.masked_fill(~counted, torch.inf).sort(1).values
    threshold = ascending.gather(1, position[:, None].clamp_max(values.shape[1] - 1))
    # At position 0 nothing is mined: the released code treats the value as "no threshold".
    above = (values > threshold) & counted & (position > 0)[:, None]
    claims = torch.zeros_like(maps, dtype=torch.bool)
    claims[image, channel] = above.unflatten(1, maps.shape[2:])
    return claims


def _first(claimed: Tensor) -> Tensor:
    """1 + the lowest class that claims a pixel, int64 (B, H, W); meaningless where no class claims it."""
    # Four times as fast as argmax on the CPU.
    classes = claimed.shape[1]
    countdown = torch.arange(classes, 0, -1, dtype=torch.uint8, device=claimed.device)[:, None, None]
    return classes + 1 - (claimed * countdown).amax(1).long()


def _opened(foreground: Tensor, real: Tensor, side: int) -> Tensor:
    """Step 3: opening of bool (B, H, W) by a box, as OpenCV does it.

    Erosion and dilation both use offsets -(side // 2) .. side - 1 - side // 2: the box is not reflected, so for an
    even side the result is shifted by a pixel. Pixels that are not `real`, or outside the image, are ignored.
    """
    if side < 2 or not foreground.numel():
        return foreground
    eroded = ~_dilated(~foreground & real, side)
    return _dilated(eroded & real, side)


def _dilated(mask: Tensor, side: int) -> Tensor:
    before, after = side // 2, side - 1 - side // 2
    padded = F.pad(mask.float(), (before, after, before, after))
    by_row = F.max_pool2d(padded, (1, side), stride=1)
    return F.max_pool2d(by_row, (side, 1), stride=1) > 0


def _check(maps: Tensor, saliency: Tensor, labels: Tensor, valid: Tensor | None) -> None:
    if maps.ndim != 4:
        raise ValueError(f"maps: expected shape (B, C, H, W), got {tuple(maps.shape)}")
    batch, classes, height, width = maps.shape
    check_shape("labels", labels, (batch, classes))
    check_shape("saliency", saliency, (batch, height, width))
    if valid is not None:
        check_shape("valid", valid, (batch, height, width))


class Targets(NamedTuple):
    """maps: refined and normalised, (B, C, S, S). pixels: pseudo labels uint8 (B, S, S). mined: bool (B, S, S)."""

    maps: Tensor
    pixels: Tensor
    mined: Tensor


@torch.no_grad()
def make_targets(
    activation: Tensor,
    image_rgb: Tensor,
    saliency: Tensor,
    labels: Tensor,
    valid: Tensor,
    maps: Maps,
    recipe: Recipe,
    classes: PresentClasses | None = None,
) -> Targets:
    """Refines and normalises maps, and turns them into labels by label completion or, `maps.labels: crf`, dense CRFs.

    If the recipe leaves padding out, maps are set to zero there before they are divided by their maximum: a high value
    on the padding must not suppress the map inside the image.

    Args:
        activation: maps as `activation_maps` returns them, (B, C, h, w).
        image_rgb: 0..255, (B, 3, S, S).
        saliency: (B, S, S), above 0 is salient.
        labels: of the images, (B, C), above 0 where the class is present.
        valid: (B, S, S), above 0 on real pixels.
        maps: the experiment's settings of iterations, dilations and labels.
        classes: those of `labels` as lists; None: read from them, which may have to come from the device.

    Raises:
        ValueError: shapes that do not fit.
    """
    classes = classes or PresentClasses.of(labels)
    refined = refine_maps(activation, image_rgb.float(), maps.iterations, maps.dilations, classes.most)
    if recipe.padding == "paper":
        refined = refined * (valid > 0)[:, None]
    normalised = normalise_maps(refined)
    if maps.labels == "completion":
        return Targets(normalised, *complete_labels(normalised, saliency, labels, recipe, valid, classes))
    pixels = crf_labels(normalised, image_rgb, saliency, labels)
    if recipe.padding == "paper":
        pixels = pixels.where(valid > 0, UNKNOWN)
    return Targets(normalised, pixels, torch.zeros_like(pixels, dtype=torch.bool))
