"""Label completion against a plain loop with OpenCV's opening, and hand-made cases in which the recipes part."""

import cv2
import numpy as np
import pytest
import torch

from getam import complete_labels, load_recipe, saliency_target
from getam.config.experiment import Maps
from getam.method.pseudo_labels import make_targets

RELEASED, PAPER = load_recipe("released"), load_recipe("paper")


def released_by_hand(maps: np.ndarray, saliency: np.ndarray, label: np.ndarray, quantile: float) -> tuple:
    """docs/explanation/method.md section 3 word by word, one image: (C, H, W), (H, W), (C,) -> labels, mined."""
    scores = np.concatenate([(1 - maps.max(0, keepdims=True)) ** 32, maps])
    pixels = scores.argmax(0)
    pixels[pixels == 0] = 255
    pixels[saliency == 0] = 0
    mined = np.zeros_like(saliency, bool)
    for category in np.flatnonzero(label):
        values = np.sort(maps[category][maps[category] > 0])
        position = int(quantile * len(values))
        if position == 0:
            continue
        new = (maps[category] > values[position]) & (pixels == 0)
        pixels[new] = category + 1
        mined |= new
    opened = cv2.morphologyEx((pixels != 0).astype(np.uint8), cv2.MORPH_OPEN, np.ones((10, 10), np.uint8))
    pixels[opened == 0] = 0
    return pixels, mined


def blobs(rng: np.random.Generator, *shape: int, sigma: float = 4) -> np.ndarray:
    """Smooth fields between 0 and 1."""
    noise = rng.standard_normal(shape)
    flat = noise.reshape(-1, *shape[-2:])
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in flat]).reshape(shape)
    return (smooth - smooth.min()) / np.ptp(smooth)


@pytest.mark.parametrize("quantile", [0.9, 0.95])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_plain_loop(seed, quantile):
    rng = np.random.default_rng(seed)
    label = (rng.random((3, 6)) < 0.5).astype(np.float32)
    label[2] = 0
    maps = np.maximum(blobs(rng, 3, 6, 60, 75) - 0.45, 0).astype(np.float32) * label[:, :, None, None]
    saliency = (255 * (blobs(rng, 3, 60, 75, sigma=6) > 0.5)).astype(np.uint8)
    recipe = load_recipe("released", mining_quantile=quantile)
    labels, mined = complete_labels(*map(torch.from_numpy, (maps, saliency, label)), recipe)
    for i in range(3):
        expected, expected_mined = released_by_hand(maps[i], saliency[i], label[i], quantile)
        np.testing.assert_array_equal(labels[i], expected)
        np.testing.assert_array_equal(mined[i], expected_mined)
    assert mined.any()


@pytest.mark.parametrize("side", [2, 3, 5, 10])
def test_opening_is_opencvs(side):
    """Shapes at every border and just too thin, through the public function: salient pixels of a strong map."""
    rng = np.random.default_rng(side)
    mask = (blobs(rng, 1, 50, 50, sigma=2) > 0.5).astype(np.uint8)
    recipe = load_recipe("released", opening=side)
    labels, _ = complete_labels(torch.ones(1, 1, 50, 50) * 0.5, torch.from_numpy(mask), torch.ones(1, 1), recipe)
    # With an even side the opened shape is shifted, and lies in part where no label is.
    expected = mask[0] * cv2.morphologyEx(mask[0], cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    np.testing.assert_array_equal(labels[0], expected)
    assert 0 < expected.sum() < mask.sum()


def test_background_score():
    """Salient pixels are the class's where max M exceeds about 0.077, else unknown; alpha moves the border."""
    maps = torch.linspace(0, 1, 200).expand(1, 1, 20, 200)
    arguments = (maps, torch.ones(1, 20, 200), torch.ones(1, 1))
    for alpha, border in ((32, 0.0767), (4, 0.2755)):
        labels, _ = complete_labels(*arguments, load_recipe("released", background_power=alpha, opening=0))
        assert torch.equal(labels[0, 0] == 1, maps[0, 0, 0] > border)
        assert set(labels.unique().tolist()) == {1, 255}


def two_claims() -> tuple[torch.Tensor, ...]:
    """40 x 40, nothing salient. Class 1 is high in columns 0-19, class 2 in columns 10-29 of the upper half."""
    maps = torch.full((1, 2, 40, 40), 0.01)
    maps[0, 0, :20, :20] = 0.8
    maps[0, 1, :20, 10:30] = 0.9
    # A value that stands at the quantile's position and leaves the plateaus strictly above it.
    return maps, torch.zeros(1, 40, 40), torch.ones(1, 2)


def test_pixel_claimed_by_two_classes():
    maps, saliency, present = two_claims()
    both = (slice(None, 20), slice(10, 20))
    quantile = 0.7
    released, mined = complete_labels(maps, saliency, present, load_recipe("released", mining_quantile=quantile))
    paper, _ = complete_labels(maps, saliency, present, load_recipe("paper", mining_quantile=quantile))
    assert (released[0][both] == 1).all()  # the first in index order, though the second is higher
    assert (paper[0][both] == 255).all()
    for labels in (released, paper):
        assert (labels[0, :20, :10] == 1).all()
        assert (labels[0, :20, 20:30] == 2).all()
        assert not labels[0, :20, 30:].any()
        assert not labels[0, 20:].any()
    assert torch.equal(mined[0], (torch.arange(40)[:, None] < 20) & (torch.arange(40) < 30))


def test_saliency_target_of_each_recipe():
    saliency = torch.zeros(1, 4, 4, dtype=torch.uint8)
    saliency[0, :2] = 255
    mined = torch.zeros(1, 4, 4, dtype=torch.bool)
    mined[0, 3, 0] = True
    assert torch.equal(
        saliency_target(saliency, mined, PAPER), torch.tensor([0.0, 0, 1, 1])[None, :, None].expand(1, 4, 4)
    )
    released = torch.ones(1, 4, 4)
    released[0, 3, 0] = 0
    assert torch.equal(saliency_target(saliency, mined, RELEASED), released)


def padded(recipe, valid):
    """Columns 30-39 are padding in which the map is highest; the map rises to the right, nothing is salient."""
    maps = torch.linspace(0.1, 0.9, 40).expand(1, 1, 40, 40)
    return complete_labels(maps, torch.zeros(1, 40, 40), torch.ones(1, 1), recipe, valid)


def test_padding():
    valid = torch.zeros(1, 40, 40)
    valid[:, :, :30] = 1
    released, released_mined = padded(load_recipe("released", mining_quantile=0.5, opening=0), valid)
    assert torch.equal(released[0, 0] == 1, torch.arange(40) > 20)  # the quantile counts the padding, and mines it
    assert released_mined[0, :, 30:].all()
    paper, paper_mined = padded(load_recipe("paper", mining_quantile=0.5, opening=0), valid)
    assert torch.equal(paper[0, 0, :30] == 1, torch.arange(30) > 15)
    assert (paper[0, :, 30:] == 255).all()
    assert not paper_mined[0, :, 30:].any()
    without, _ = padded(load_recipe("paper", mining_quantile=0.5, opening=0), None)
    assert torch.equal(without, released)


def test_opening_beside_padding():
    """An object 8 pixels wide at the padded border: left out, the border acts as the image's own."""
    maps = torch.full((1, 1, 40, 40), 0.5)
    saliency, valid = torch.zeros(1, 40, 40), torch.zeros(1, 40, 40)
    saliency[:, 10:30, 22:30] = 1
    valid[:, :, :30] = 1
    present = torch.ones(1, 1)
    paper, _ = complete_labels(maps, saliency, present, PAPER, valid)
    cropped, _ = complete_labels(maps[..., :30], saliency[..., :30], present, PAPER)
    assert torch.equal(paper[..., :30], cropped)
    assert cropped.any()
    released, _ = complete_labels(maps, saliency, present, RELEASED, valid)
    assert not released.any()  # beside ten columns of background it is too thin


def test_numpy_saliency_types_and_images_without_labels():
    maps = torch.rand(1, 3, 16, 16)
    for saliency in (
        torch.full((1, 16, 16), 255, dtype=torch.uint8),
        torch.ones(1, 16, 16, dtype=torch.bool),
    ):
        labels, mined = complete_labels(maps, saliency, torch.zeros(1, 3), RELEASED)
        assert (labels == 255).all()
        assert not mined.any()


def test_shapes_that_do_not_fit():
    maps, saliency, labels = torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8), torch.zeros(2, 3)
    with pytest.raises(TypeError, match="recipe: expected a Recipe, as load_recipe returns it, got 'released'"):
        complete_labels(maps, saliency, labels, "released")
    assert complete_labels(maps[:0], saliency[:0], labels[:0], RELEASED)[0].shape == (0, 8, 8)
    with pytest.raises(ValueError, match=r"saliency: expected shape \(2, 8, 8\), got \(2, 1, 8, 8\)"):
        complete_labels(maps, saliency[:, None], labels, RELEASED)
    with pytest.raises(ValueError, match=r"labels: expected shape \(2, 3\), got \(2, 4\)"):
        complete_labels(maps, saliency, torch.zeros(2, 4), RELEASED)
    with pytest.raises(ValueError, match=r"valid: expected shape \(2, 8, 8\)"):
        complete_labels(maps, saliency, labels, RELEASED, torch.ones(2, 8, 9))
    with pytest.raises(ValueError, match=r"maps: expected shape \(B, C, H, W\)"):
        complete_labels(maps[0], saliency, labels, RELEASED)
    with pytest.raises(ValueError, match="differ in shape"):
        saliency_target(saliency, torch.zeros(2, 8, 9), RELEASED)


@pytest.mark.parametrize("recipe", ["released", "paper"])
def test_a_border_that_the_network_likes(recipe):
    """The map is ten times higher on the padding, columns 16 to 63, than anywhere in the image."""
    generator = torch.Generator().manual_seed(0)
    activation = torch.rand(2, 3, 4, 4, generator=generator)
    activation[..., 1:] *= 10
    labels = torch.tensor([[1, 0, 1], [0, 1, 0]])
    valid = torch.zeros(2, 64, 64, dtype=torch.bool)
    valid[..., :16] = True
    image_rgb = torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)
    saliency = torch.full((2, 64, 64), 255, dtype=torch.uint8)
    maps, pixels, _ = make_targets(
        activation * labels[:, :, None, None],
        image_rgb,
        saliency,
        labels,
        valid,
        Maps(iterations=0),
        load_recipe(recipe),
    )
    inside = maps[..., :16].amax((2, 3))[labels > 0]
    if recipe == "paper":
        assert inside == pytest.approx(1, abs=1e-4)
        assert not maps[..., 16:].any()
        assert (pixels[..., 16:] == 255).all()
    else:
        assert (inside < 0.9).all()
        assert maps[..., 16:].amax((2, 3))[labels > 0] == pytest.approx(1, abs=1e-4)
