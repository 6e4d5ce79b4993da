"""What the joint phase teaches the network: from a batch's maps to its pseudo labels (docs/method.md section 3)."""

from typing import NamedTuple

import torch
from torch import Tensor

from getam.crf_labels import crf_labels
from getam.experiment import Maps
from getam.images import UNKNOWN
from getam.pseudo_labels import complete_labels
from getam.recipe import Recipe
from getam.refinement import normalise_maps, refine_maps


class Targets(NamedTuple):
    """maps: refined and normalised, (B, C, S, S). pixels: pseudo labels uint8 (B, S, S). mined: bool (B, S, S)."""

    maps: Tensor
    pixels: Tensor
    mined: Tensor


@torch.no_grad()
def make_targets(
    activation: Tensor, image_rgb: Tensor, saliency: Tensor, labels: Tensor, valid: Tensor, maps: Maps, recipe: Recipe
) -> Targets:
    """Refines and normalises maps, and makes labels of them by label completion or, `maps.labels: crf`, by dense CRFs.

    Where the recipe leaves padding out, maps are zero on it before they are divided by their maximum: a border that the
    network likes must not make the image itself look empty.

    Args:
        activation: maps as `activation_maps` returns them, (B, C, h, w).
        image_rgb: 0..255, (B, 3, S, S).
        saliency, valid: (B, S, S), above 0 where salient, and where there is an image.
        labels: of the images, (B, C).
    """
    refined = refine_maps(activation, image_rgb.float(), maps.iterations, maps.dilations)
    if recipe.padding == "paper":
        refined = refined * (valid > 0)[:, None]
    normalised = normalise_maps(refined)
    if maps.labels == "completion":
        return Targets(normalised, *complete_labels(normalised, saliency, labels, recipe, valid))
    pixels = crf_labels(normalised, image_rgb, saliency, labels)
    if recipe.padding == "paper":
        pixels = pixels.where(valid > 0, UNKNOWN)
    return Targets(normalised, pixels, torch.zeros_like(pixels, dtype=torch.bool))
