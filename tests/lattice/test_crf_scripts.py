"""Programs that call pydensecrf, run once with it and once with getam_lattice: the same result."""

import numpy as np
import pytest
from skimage import data

import getam_lattice.densecrf
import getam_lattice.utils
from benchmarks.speed import crf_scripts

OURS = (getam_lattice.densecrf, getam_lattice.utils)


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip("pydensecrf.densecrf"), pytest.importorskip("pydensecrf.utils")


def smooth_probabilities(labels: int, *shape: int, seed: int = 0) -> np.ndarray:
    """(labels, *shape), constant on blocks of 8 but for noise."""
    generator = np.random.default_rng(seed)
    scores = generator.standard_normal((labels, *(side // 8 + 1 for side in shape)))
    for axis in range(1, len(shape) + 1):
        scores = scores.repeat(8, axis)
    scores = 2 * scores[(slice(None), *(slice(side) for side in shape))]
    exponentials = np.exp(scores + 0.5 * generator.standard_normal(scores.shape))
    return np.float32(exponentials / exponentials.sum(0))


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[::4, ::3])


@pytest.mark.parametrize("program", ["segmentation_postprocessing", "irn_inference"])
def test_probabilities_and_a_photograph(theirs, photograph, program):
    probabilities = smooth_probabilities(21, *photograph.shape[:2])
    run = getattr(crf_scripts, program)
    expected, found = run(*theirs, photograph, probabilities), run(*OURS, photograph, probabilities)
    assert np.array_equal(found.argmax(0), expected.argmax(0))
    assert np.abs(found - expected).max() < 2e-4


def test_scaled_images(theirs, photograph):
    probabilities = smooth_probabilities(5, *photograph.shape[:2])
    expected = crf_scripts.irn_inference(*theirs, photograph, probabilities, 2.5)
    found = crf_scripts.irn_inference(*OURS, photograph, probabilities, 2.5)
    assert np.array_equal(found.argmax(0), expected.argmax(0))


def test_labels_and_a_photograph(theirs, photograph):
    labelling = smooth_probabilities(21, *photograph.shape[:2]).argmax(0)
    expected = crf_scripts.irn_inference_label(*theirs, photograph, labelling)
    assert len(np.unique(expected)) > 3
    assert np.array_equal(crf_scripts.irn_inference_label(*OURS, photograph, labelling), expected)


def test_an_annotated_photograph(theirs, photograph):
    annotation = smooth_probabilities(4, *photograph.shape[:2]).argmax(0)
    expected, their_divergences = crf_scripts.annotated_image(*theirs, photograph, annotation)
    found, divergences = crf_scripts.annotated_image(*OURS, photograph, annotation)
    assert np.array_equal(found.argmax(0), expected.argmax(0))
    assert np.abs(found - expected).max() < 2e-4
    assert divergences == pytest.approx(their_divergences, rel=1e-4)
    assert divergences[-1] < divergences[0]


def test_a_grid_without_an_image(theirs):
    probabilities = smooth_probabilities(2, 200, 100)
    expected, found = (crf_scripts.two_dimensions(*modules, probabilities) for modules in (theirs, OURS))
    assert np.array_equal(found.argmax(0), expected.argmax(0))
    assert np.abs(found - expected).max() < 2e-5


@pytest.mark.parametrize("channels", [0, 1, 2, 4, 6])
def test_images_that_are_no_photographs(theirs, channels):
    shape = (70, 60) if channels == 0 else (channels, 70, 60)
    values = np.random.default_rng(1).normal(0.5, 0.03, shape)
    values[..., 20:50, 10:40] += 0.3
    probabilities = smooth_probabilities(2, 70, 60)
    expected, found = (crf_scripts.other_channels(*modules, values, probabilities) for modules in (theirs, OURS))
    assert np.array_equal(found.argmax(0), expected.argmax(0))
    assert np.abs(found - expected).max() < 2e-4


def test_a_volume(theirs):
    probabilities = smooth_probabilities(3, 16, 24, 20)
    values = np.random.default_rng(2).normal(0.5, 0.1, (16, 24, 20))
    expected, found = (crf_scripts.volume(*modules, values, probabilities) for modules in (theirs, OURS))
    assert np.array_equal(found.argmax(0), expected.argmax(0))
    assert np.abs(found - expected).max() < 2e-4
