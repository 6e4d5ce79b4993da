"""The released code's augmentation (docs/method.md, section 5): a random size, a random flip, a random crop."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from getam.backbones import IMAGE_MEAN

# What is zero after normalisation, rounded to 8 bits; the validity mask makes it exactly zero.
_PADDING = np.rint(255 * np.array(IMAGE_MEAN)).astype(np.uint8)


class View(NamedTuple):
    """One random view: image_rgb uint8 (S, S, 3), saliency uint8 (S, S), valid bool (S, S), False on the padding."""

    image_rgb: np.ndarray
    saliency: np.ndarray
    valid: np.ndarray


def random_view(image_rgb: np.ndarray, saliency: np.ndarray, crop: int, generator: np.random.Generator) -> View:
    """A crop of `crop` x `crop` pixels of an image and its saliency map.

    The long side is resized to a random length from int(0.9 crop) to int(crop / 0.875), the image by a bilinear filter
    (which one the released code uses is not known), the saliency by its nearest pixel. Where the result is smaller than
    the crop it lies at a random place of it, the image padded with the mean colour, the saliency with 0.

    Args:
        image_rgb: uint8 (H, W, 3).
        saliency: uint8 (H, W).
        generator: the only source of chance.
    """
    long_side = int(generator.integers(int(0.9 * crop), int(crop / 0.875) + 1))
    height, width = image_rgb.shape[:2]
    scale = long_side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = np.asarray(Image.fromarray(image_rgb).resize(size, Image.Resampling.BILINEAR))
    marked = np.asarray(Image.fromarray(saliency).resize(size, Image.Resampling.NEAREST))
    if generator.random() < 0.5:
        image, marked = image[:, ::-1], marked[:, ::-1]
    rows, columns = (_overlap(length, crop, generator) for length in image.shape[:2])
    view = View(np.empty((crop, crop, 3), np.uint8), np.zeros((crop, crop), np.uint8), np.zeros((crop, crop), bool))
    view.image_rgb[:] = _PADDING
    target = rows[1], columns[1]
    view.image_rgb[target] = image[rows[0], columns[0]]
    view.saliency[target] = marked[rows[0], columns[0]]
    view.valid[target] = True
    return view


def _overlap(length: int, crop: int, generator: np.random.Generator) -> tuple[slice, slice]:
    """Which part of an axis is taken, and where in the crop it lies."""
    room = crop - length
    offset = int(generator.integers(abs(room) + 1))
    if room >= 0:
        return slice(0, length), slice(offset, offset + length)
    return slice(offset, offset + crop), slice(0, crop)
