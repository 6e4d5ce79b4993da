"""Training samples whose pixels have labels: masks of the data set, or labels that another network has made."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from getam.constants import UNKNOWN
from getam.data.augmentation import random_view
from getam.data.dataset import Split, check_labels
from getam.data.images import read_image, read_mask
from getam.utils.checks import check_whole


class LabelledImages(Dataset):
    """Random views of a split's images, with a label for each pixel and image-level labels.

    Indexed by (epoch, i) as `getam.data.loading.TrainingImages`, and as independent of processes and earlier items.

    Args:
        split: of a prepared data set.
        masks: folder of <id>.png with labels 0..C and 255.
        crop: side of the views.
        seed: another seed gives other views.
        scale: random factors of an image's size, as `random_view` takes them.

    Raises:
        FileNotFoundError: images lack their mask.
        ValueError: the split has no image-level labels.
    """

    def __init__(self, split: Split, masks: Path, crop: int, seed: int = 0, scale: tuple[float, float] | None = None):
        check_whole(1, crop=crop)
        check_whole(0, seed=seed)
        if split.labels is None:
            raise ValueError(f"split {split.name!r} has no image-level labels to train on")
        check_labels(split, masks)
        self._split, self._masks, self._crop, self._seed, self._scale = split, masks, crop, seed, scale

    def __len__(self) -> int:
        return len(self._split)

    @property
    def item_bytes(self) -> int:
        """Bytes of an item's tensors: image, labels of pixels, validity, labels of the image."""
        return 5 * self._crop**2 + 4 * self._split.labels.shape[1]

    def __getitem__(self, position: tuple[int, int]) -> dict[str, Tensor | str]:
        """`id`; `image_rgb` uint8 (3, S, S); `pixels` uint8, `valid` bool (S, S); `labels` float32 (C,).

        Image and mask get the same view. On the padding the labels are 255.

        Raises:
            ValueError: a file cannot be read, or the mask has another size than the image or labels above C.
        """
        epoch, i = position
        name = self._split.ids[i]
        image = read_image(self._split.image(name))
        mask = self._read_mask(name, image.shape[:2])
        generator = np.random.default_rng([self._seed, epoch, i])
        image_rgb, pixels, valid = random_view(image, mask, self._crop, generator, self._scale)
        return {
            "id": name,
            "image_rgb": image_rgb,
            "pixels": pixels.masked_fill(~valid, UNKNOWN),
            "valid": valid,
            "labels": torch.from_numpy(self._split.labels[i]),
        }

    def _read_mask(self, name: str, size: tuple[int, int]) -> np.ndarray:
        path = self._masks / f"{name}.png"
        mask, classes = read_mask(path, size), self._split.labels.shape[1]
        wrong = mask[(mask > classes) & (mask != UNKNOWN)]
        if wrong.size:
            raise ValueError(
                f"{path}: label {wrong[0]} is none of the data set, which has 0 to {classes} and {UNKNOWN}"
            )
        return mask
