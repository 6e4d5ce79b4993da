"""Samples with given labels: image and mask are cropped alike."""

from itertools import product

import numpy as np
import pytest
import torch

from getam.data.dataset import Split
from getam.data.images import write_grey, write_mask
from getam.data.labelled import LabelledImages

SIZE = (40, 60)


@pytest.fixture
def split(tmp_path):
    """Images whose grey value is 50 times the label of the pixel, with labels 0 to 2."""
    (tmp_path / "masks").mkdir()
    for i in range(3):
        mask = np.zeros(SIZE, np.uint8)
        mask[5 : 20 + i, 10:35] = 1
        mask[20:36, 30 : 55 - i] = 2
        write_mask(tmp_path / "masks" / f"{i}.png", mask)
        write_grey(tmp_path / f"{i}.png", mask * 50)
    return Split("train", ("0", "1", "2"), np.ones((3, 2), np.float32), tmp_path, ".png", tmp_path / "masks")


@pytest.mark.parametrize("scale", [None, (0.5, 1.5)])
def test_image_and_mask_get_the_same_view(split, scale):
    images = LabelledImages(split, split.masks, 48, seed=3, scale=scale)
    apart = np.zeros(5)
    for position in product(range(6), range(3)):
        item = images[position]
        assert item["pixels"].shape == item["valid"].shape == (48, 48)
        assert (item["pixels"][~item["valid"]] == 255).all()
        assert set(item["pixels"].unique().tolist()) <= {0, 1, 2, 255}
        given, seen = item["pixels"].int() % 255 * 50, item["image_rgb"][0].int()
        moved = [given.roll((down, right), (0, 1)) for down, right in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]
        apart += [(values - seen)[item["valid"]].abs().float().mean().item() for values in moved]
    # Blurred edges differ a little, of a mask that is one pixel away much more.
    assert apart[0] < 0.7 * min(apart[1:])


@pytest.mark.parametrize(("factor", "expected"), [(0.5, (20, 30)), (0.75, (30, 45))])
def test_scale_is_a_factor_of_the_size_of_the_image(split, factor, expected):
    valid = LabelledImages(split, split.masks, 64, scale=(factor, factor))[0, 0]["valid"]
    assert (int(valid.any(1).sum()), int(valid.any(0).sum())) == expected


def test_random_scales_cover_their_range(split):
    images = LabelledImages(split, split.masks, 96, scale=(0.5, 1.5))
    widths = [int(images[epoch, 0]["valid"].any(0).sum()) for epoch in range(200)]
    assert min(widths) in range(30, 34)
    assert max(widths) in range(86, 91)
    assert 55 < np.mean(widths) < 65


def test_a_crop_smaller_than_the_image_has_no_padding(split):
    item = LabelledImages(split, split.masks, 32, scale=(1.5, 1.5))[0, 0]
    assert item["valid"].all()
    assert (item["pixels"] != 255).all()


def test_items_depend_on_the_position_alone(split):
    images = LabelledImages(split, split.masks, 48)
    first, other = images[1, 2], images[2, 2]
    images[0, 0]
    assert torch.equal(images[1, 2]["image_rgb"], first["image_rgb"])
    assert not torch.equal(other["image_rgb"], first["image_rgb"])


def test_wrong_labels_are_named(split):
    (split.masks / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 3 given labels of split 'train' are missing: .*1\.png"):
        LabelledImages(split, split.masks, 48)
    write_mask(split.masks / "1.png", np.full(SIZE, 3, np.uint8))
    with pytest.raises(ValueError, match=r"1\.png: label 3 is none of the data set, which has 0 to 2 and 255"):
        LabelledImages(split, split.masks, 48)[0, 1]
    write_mask(split.masks / "1.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(ValueError, match=r"1\.png: expected 60 x 40 pixels as its image has, found 9 x 9"):
        LabelledImages(split, split.masks, 48)[0, 1]
