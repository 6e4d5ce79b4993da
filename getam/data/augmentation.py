"""The released code's augmentation: a random size, a random flip, a random crop.

docs/explanation/method.md, section 5.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from getam.constants import IMAGE_MEAN

# ImageNet's mean colour in 8 bits: almost zero after normalisation; the validity mask makes it exactly zero.
_PADDING = torch.tensor(IMAGE_MEAN).mul(255).round().to(torch.uint8)[:, None, None]


def mean_colour() -> np.ndarray:
    """ImageNet's mean colour, uint8 (3,), which images are padded with."""
    return _PADDING.flatten().numpy()


class View(NamedTuple):
    """A square view: image_rgb uint8 (3, S, S), saliency uint8 (S, S), valid bool (S, S), False on the padding.

    Several views of one size can be stacked to a batch: then each part has a first dimension B.
    """

    image_rgb: Tensor
    saliency: Tensor
    valid: Tensor

    def unbatched(self) -> "Iterator[View]":
        """The views of a batch, one by one."""
        return map(View._make, zip(*self, strict=True))

    def image_area(self) -> tuple[slice, slice]:
        """Rows and columns of one view that are not padding."""
        rows, columns = (self.valid.any(axis).nonzero().squeeze(1).tolist() for axis in (1, 0))
        return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def unpad(self, values: Tensor) -> Tensor:
        """The part (..., h, w) of values (..., S, S) of one view that is not padding."""
        return values[(..., *self.image_area())]


def random_view(
    image_rgb: np.ndarray,
    saliency: np.ndarray,
    crop: int,
    generator: np.random.Generator,
    scale: tuple[float, float] | None = None,
) -> View:
    """A crop of `crop` x `crop` pixels of an image and its saliency map.

    The long side is resized to a random length: the image by an antialiased bilinear filter (the released code's filter
    is not known), the saliency map by nearest neighbour. A result that is smaller than the crop is placed at random
    inside it; the image is padded with the mean colour, the saliency with 0.

    Args:
        image_rgb: uint8 (H, W, 3).
        saliency: uint8 (H, W), or any other map of labels.
        generator: the only source of randomness.
        scale: the image is resized by a random factor between these two; None: its long side gets from int(0.9 crop) to
            int(crop / 0.875) pixels.
    """
    if scale is None:
        long_side = int(generator.integers(int(0.9 * crop), int(crop / 0.875) + 1))
    else:
        long_side = max(1, round(max(saliency.shape) * generator.uniform(*scale)))
    image, marked = _resized(image_rgb, saliency, long_side)
    if generator.random() < 0.5:
        image, marked = image.flip(-1), marked.flip(-1)
    places = [_overlap(length, crop, int(generator.integers(abs(crop - length) + 1))) for length in marked.shape]
    return _placed(image, marked, crop, places)


def centred_view(image_rgb: np.ndarray, saliency: np.ndarray, crop: int) -> View:
    """The whole image and its saliency map, without randomness: long side `crop`, the other side padded equally."""
    image, marked = _resized(image_rgb, saliency, crop)
    return _placed(image, marked, crop, [_overlap(length, crop, (crop - length) // 2) for length in marked.shape])


def _resized(image_rgb: np.ndarray, saliency: np.ndarray, long_side: int) -> tuple[Tensor, Tensor]:
    """uint8 (3, h, w) and (h, w)."""
    scale = long_side / max(saliency.shape)
    size = [max(1, round(length * scale)) for length in saliency.shape]
    # On uint8, torch's filter takes a quarter of Pillow's time.
    image = F.interpolate(torch.from_numpy(image_rgb).permute(2, 0, 1)[None], size, mode="bilinear", antialias=True)[0]
    marked = F.interpolate(torch.from_numpy(saliency)[None, None], size, mode="nearest-exact")[0, 0]
    return image, marked


def _placed(image: Tensor, marked: Tensor, crop: int, places: list[tuple[slice, slice]]) -> View:
    (rows, target_rows), (columns, target_columns) = places
    view = View(
        _PADDING.repeat(1, crop, crop),
        torch.zeros(crop, crop, dtype=torch.uint8),
        torch.zeros(crop, crop, dtype=torch.bool),
    )
    view.image_rgb[:, target_rows, target_columns] = image[:, rows, columns]
    view.saliency[target_rows, target_columns] = marked[rows, columns]
    view.valid[target_rows, target_columns] = True
    return view


def _overlap(length: int, crop: int, offset: int) -> tuple[slice, slice]:
    """Two slices of one axis: the part of the image that is copied, and its place in the crop."""
    if length <= crop:
        return slice(0, length), slice(offset, offset + length)
    return slice(offset, offset + crop), slice(0, crop)
