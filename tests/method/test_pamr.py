"""PAMR against loops over pixels in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from getam import normalise_maps, refine_maps
from getam.method.pamr import DILATIONS, _refine_at_once, affinity
from tests.conftest import relative_error


def pamr_by_loops(maps: np.ndarray, image: np.ndarray, iterations: int, dilations: tuple[int, ...]) -> np.ndarray:
    """maps (C, H, W), image (3, H, W), one pixel at a time."""
    height, width = image.shape[1:]
    steps = [(d * y, d * x) for d in dilations for y in (-1, 0, 1) for x in (-1, 0, 1)]

    def at(array, y, x, step):
        return array[:, min(max(y + step[0], 0), height - 1), min(max(x + step[1], 0), width - 1)]

    weights = np.zeros((height, width, len(steps)))
    for y in range(height):
        for x in range(width):
            window = np.array([at(image, y, x, step) for step in steps])
            scale = 1e-8 + 0.1 * window.std(axis=0, ddof=1)
            score = (-np.abs(image[:, y, x] - window) / scale).mean(1)
            score[4::9] = -np.inf  # the centre is in the window, and no neighbour
            weights[y, x] = np.exp(score - score.max())
            weights[y, x] /= weights[y, x].sum()
    for _ in range(iterations):
        maps = np.stack(
            [
                sum(w * at(maps, y, x, step) for w, step in zip(weights[y, x], steps, strict=True))
                for y in range(height)
                for x in range(width)
            ],
            axis=1,
        ).reshape(maps.shape)
    return maps


@pytest.mark.parametrize("dilations", [(1, 2), DILATIONS])
def test_equals_loops(dilations):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 3, 11, 14)).astype(float)
    image[:, :, :6] = image[:, :, :1, :1]  # a flat region: its standard deviation is 0
    maps = rng.random((1, 2, 11, 14))
    found = refine_maps(torch.from_numpy(maps), torch.from_numpy(image), iterations=3, dilations=dilations)
    assert relative_error(found[0], pamr_by_loops(maps[0], image[0], 3, dilations)) < 1e-9


@pytest.mark.parametrize("dilations", [(1,), (1, 2, 8)])
def test_all_neighbours_at_once_equal_loops(dilations):
    """The form for GPUs, which gathers all neighbours by one operation."""
    generator = torch.Generator().manual_seed(3)
    maps = torch.rand(2, 3, 7, 9, generator=generator, dtype=torch.float64)
    images = torch.randint(0, 256, (2, 3, 7, 9), generator=generator).double()
    found = _refine_at_once(maps, images, 3, dilations)
    for image in range(2):
        expected = pamr_by_loops(maps[image].numpy(), images[image].numpy(), 3, dilations)
        assert relative_error(found[image], expected) < 1e-12


def test_float32_is_enough():
    rng = np.random.default_rng(1)
    image = torch.from_numpy(rng.integers(0, 256, (2, 3, 64, 48)).astype(np.float64))
    maps = torch.from_numpy(rng.random((2, 3, 4, 3)))
    assert relative_error(refine_maps(maps.float(), image.float()), refine_maps(maps, image)) < 1e-4


def test_weights_add_up_to_one():
    weights = affinity(torch.rand(2, 3, 20, 30) * 255)
    assert weights.shape == (48, 2, 20, 30)
    assert torch.allclose(weights.sum(0), torch.ones(2, 20, 30), atol=1e-5)


def test_upsampling_keeps_the_corners():
    maps = torch.rand(1, 1, 3, 4)
    found = refine_maps(maps, torch.zeros(1, 3, 9, 10), iterations=0)
    assert torch.equal(found, F.interpolate(maps, size=(9, 10), mode="bilinear", align_corners=True))
    assert torch.equal(found[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]], maps[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]])


def test_maps_are_refined_alone():
    """Zero maps stay zero, and neither other classes nor other images change a map; uint8 images are accepted."""
    torch.manual_seed(0)
    maps = torch.rand(3, 5, 4, 4) * torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]])[:, :, None, None]
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    refined = refine_maps(maps, images)
    assert refined.dtype == torch.float32
    for image, category in np.ndindex(3, 5):
        alone = refine_maps(maps[image, category][None, None], images[image : image + 1])
        assert torch.allclose(refined[image, category], alone[0, 0], atol=1e-7)


def test_an_edge_is_kept():
    """Two flat halves: a map that is high in one of them does not leak into the other."""
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, :, 16:] = 255
    maps = torch.zeros(1, 1, 32, 32)
    maps[..., :16] = 1
    assert relative_error(refine_maps(maps, image), maps) < 1e-3


def test_normalise():
    maps = torch.rand(2, 3, 5, 5) * 7
    maps[0, 1] = 0
    found = normalise_maps(maps)
    assert torch.equal(found[0, 1], torch.zeros(5, 5))
    assert torch.allclose(found[1, 2], maps[1, 2] / (maps[1, 2].max() + 1e-5))


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"expected maps \(B, C, h, w\) and images_rgb \(B, 3, H, W\)"):
        refine_maps(torch.zeros(2, 1, 4, 4), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="expected maps"):
        refine_maps(torch.zeros(1, 1, 4, 4), torch.zeros(1, 8, 8, 3))
