"""Training samples whose pixels have labels: masks of the data set, or labels that another network has made."""

from pathlib import Path

import numpy as np
from torch import Tensor

from getam.constants import UNKNOWN
from getam.data.dataset import Split, check_labels
from getam.data.images import read_mask
from getam.data.loading import RandomViews


class LabelledImages(RandomViews):
    """`RandomViews` with a label for each pixel.

    Args:
        masks: folder of <id>.png with labels 0..C and 255.

    Raises:
        FileNotFoundError: images lack their mask.
        ValueError: the split has no image-level labels.
    """

    def __init__(self, split: Split, masks: Path, crop: int, seed: int = 0, scale: tuple[float, float] | None = None):
        super().__init__(split, crop, seed, scale)
        check_labels(split, masks)
        self._masks = masks

    def __getitem__(self, position: tuple[int, int]) -> dict[str, Tensor | str]:
        """`id`; `image_rgb` uint8 (3, S, S); `pixels` uint8, `valid` bool (S, S); `labels` float32 (C,).

        Image and mask get the same view. On the padding the labels are 255.

        Raises:
            ValueError: a file cannot be read, or the mask has another size than the image or labels above C.
        """
        (image_rgb, pixels, valid), of_image = self._view(position, self._read_map)
        return {"image_rgb": image_rgb, "pixels": pixels.masked_fill(~valid, UNKNOWN), "valid": valid, **of_image}

    def _read_map(self, name: str, size: tuple[int, int]) -> np.ndarray:
        path = self._masks / f"{name}.png"
        mask, classes = read_mask(path, size), self._split.labels.shape[1]
        wrong = mask[(mask > classes) & (mask != UNKNOWN)]
        if wrong.size:
            raise ValueError(
                f"{path}: label {wrong[0]} is none of the data set, which has 0 to {classes} and {UNKNOWN}"
            )
        return mask
