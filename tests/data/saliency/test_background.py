"""Saliency without training, against the paper's formulas written out and on drawn and real images."""

import numpy as np
import pytest
from PIL import Image

from getam.data.images import read_grey, read_image
from getam.data.saliency.background import (
    adjacent_pairs,
    background_saliency,
    border_saliency,
    boundary_connectivity,
    optimise,
)
from getam.data.saliency.maps import OTSU, binarise

METHODS = pytest.mark.parametrize("method", [background_saliency, border_saliency])


def disc(height: int, width: int, centre: tuple[int, int], radius: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy red disc on a noisy green wash."""
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
    image = np.stack([40 + rows * 30 // height, 120 + columns * 50 // width, 60 + 0 * rows], -1).astype(float)
    image[inside] = 200, 60, 50
    image += np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), inside


def overlap(saliency: np.ndarray, truth: np.ndarray) -> float:
    found = binarise(np.rint(255 * saliency).astype(np.uint8), OTSU) > 0
    return (found & truth).sum() / (found | truth).sum()


def textured_disc(centre: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A disc of radius 35 on a ground of 160 x 240 pixels; both are waves of colour with noise."""
    rows, columns = np.mgrid[:160, :240]
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 35**2
    waves = np.sin(columns / 5), np.sin((rows + columns) / 7), np.cos(rows / 6)
    ground = np.stack([60 + 15 * waves[0], 130 + 15 * waves[1], 70 + 15 * waves[2]], -1)
    waves = np.sin(rows / 3), np.cos(columns / 4), np.sin((columns - rows) / 5)
    image = np.where(
        inside[..., None], np.stack([220 + 20 * waves[0], 70 + 20 * waves[1], 50 + 20 * waves[2]], -1), ground
    )
    image += np.random.default_rng(seed).normal(0, 8, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), inside


@METHODS
def test_range_and_repetition(method):
    image, _ = textured_disc((80, 120), 0)
    saliency = method(image)
    assert saliency.dtype == np.float32
    assert saliency.shape == (160, 240)
    assert saliency.min() >= 0
    assert saliency.max() <= 1
    assert np.array_equal(method(image), saliency)


# border_saliency smooths its result, which enlarges the disc.
BOUNDS = pytest.mark.parametrize(("method", "bound"), [(background_saliency, 0.8), (border_saliency, 0.75)])


@BOUNDS
def test_a_textured_disc_is_found(method, bound):
    for seed in range(6):
        image, inside = textured_disc((80, 120), seed)
        assert overlap(method(image), inside) > bound


@BOUNDS
def test_a_disc_at_the_border_is_found(method, bound):
    """Some threshold always separates the disc, mostly Otsu's: the strip at the border contains a part of the disc,
    which gives the ground around it some contrast.
    """
    at_otsu = []
    for column, seed in np.ndindex(4, 3):
        image, inside = textured_disc((80, (210, 215, 225, 235)[column]), seed)
        saliency = method(image)
        thresholds = np.linspace(0.05, 0.95, 19)
        cuts = saliency > thresholds[:, None, None]
        assert max((cuts & inside).sum((1, 2)) / (cuts | inside).sum((1, 2))) > 0.8
        at_otsu.append(overlap(saliency, inside))
    assert np.median(at_otsu) > bound


@METHODS
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2), (16, 16), (700, 9), (900, 1300)])
def test_any_size(method, size):
    image = disc(*size, (size[0] // 2, size[1] // 2), max(size) // 4)[0]
    saliency = method(image)
    assert saliency.shape == size
    assert np.isfinite(saliency).all()


@METHODS
def test_no_contrast_is_no_saliency(method):
    assert not method(np.full((40, 60, 3), 77, np.uint8)).any()


def test_adjacent_pairs():
    segments = np.array([[0, 0, 1], [2, 2, 1], [2, 3, 3]])
    assert adjacent_pairs(segments).tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    assert len(adjacent_pairs(np.zeros((3, 3), int))) == 0


def test_boundary_connectivity():
    """Section 3 of the paper, with the shortest paths by Floyd and Warshall."""
    generator = np.random.default_rng(1)
    count, at_border = 12, np.arange(12) < 5
    colours = generator.normal(0, 12, (count, 3))
    d_app = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    pairs = np.array([(i, i + 1) for i in range(count - 1)] + [(2, 9), (4, 11)])
    distance = np.full((count, count), np.inf)
    np.fill_diagonal(distance, 0)
    edges = [*map(tuple, pairs), *((i, j) for i in range(5) for j in range(5) if i != j)]
    for i, j in edges:
        distance[i, j] = distance[j, i] = d_app[i, j]
    for k in range(count):
        distance = np.minimum(distance, distance[:, k : k + 1] + distance[k : k + 1])
    expected = []
    for p in range(count):
        area = sum(np.exp(-(distance[p, i] ** 2) / (2 * 10**2)) for i in range(count))
        length = sum(np.exp(-(distance[p, i] ** 2) / (2 * 10**2)) for i in range(count) if at_border[i])
        expected.append(length / np.sqrt(area))
    assert boundary_connectivity(pairs, d_app, at_border) == pytest.approx(np.array(expected), rel=1e-9)


def test_optimum():
    """No step from the optimum lowers the energy of the paper's section 5, and its gradient there is zero."""
    generator = np.random.default_rng(2)
    count = 9
    pairs = np.array([(i, j) for i in range(count) for j in range(i + 1, count) if generator.random() < 0.5])
    colours = generator.normal(0, 10, (count, 3))
    d_app = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    background, foreground = generator.random((2, count))

    def energy(s: np.ndarray) -> float:
        smooth = sum((np.exp(-(d_app[i, j] ** 2) / 200) + 0.1) * (s[i] - s[j]) ** 2 for i, j in pairs)
        return (background * s**2).sum() + (foreground * (s - 1) ** 2).sum() + smooth

    best = optimise(pairs, d_app, background, foreground)
    step = 1e-4
    for direction in np.eye(count):
        slope = (energy(best + step * direction) - energy(best - step * direction)) / (2 * step)
        assert slope == pytest.approx(0, abs=1e-9)
    assert all(energy(best + generator.normal(0, 0.1, count)) > energy(best) for _ in range(20))


@METHODS
def test_mirrored(method):
    image, _ = disc(120, 180, (60, 70), 30)
    assert np.abs(method(image[:, ::-1].copy())[:, ::-1] - method(image)).mean() < 0.05


@pytest.mark.parametrize(("method", "bound"), [(background_saliency, 0.24), (border_saliency, 0.26)])
def test_photographs(photographs, method, bound):
    """Nearer to U2-Net's maps, on average, than a Gaussian in the centre (0.43) and an all-salient map (0.74)."""
    folder, errors = photographs / "saliency_samples", []
    for path in sorted((folder / "images").iterdir()):
        image = read_image(path)
        reference = read_grey(folder / "u2netp_pred" / f"{path.stem}.png", image.shape[:2])
        size = 240, max(1, 240 * image.shape[0] // image.shape[1])
        small, expected = (np.asarray(Image.fromarray(picture).resize(size)) for picture in (image, reference))
        errors.append(np.abs(method(small) - expected / 255).mean())
    assert len(errors) == 18
    assert np.mean(errors) < bound
