"""Kernels between points with any number of features, against dense matrices in float64."""

from pathlib import Path

import numpy as np
import pytest

from getam_lattice import Kernel
from getam_lattice.kernels import Pairwise, mean_field
from tests.conftest import relative_error
from tests.helpers import lattice_oracle

NORMALISATIONS = ("none", "before", "after", "symmetric")


def points(dimensions: int, count: int = 60, seed: int = 0) -> np.ndarray:
    """(d, N): clusters, so that points share vertices."""
    generator = np.random.default_rng(seed)
    centres = generator.uniform(-3, 3, (dimensions, 5))
    return np.float32(
        centres[:, generator.integers(0, 5, count)] + 0.4 * generator.standard_normal((dimensions, count))
    )


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5, 6, 9])
def test_filter(dimensions, normalisation, instruction_set):
    features = points(dimensions)
    matrix = lattice_oracle.kernel_matrix(features.T.astype(float), normalisation)
    values = np.random.default_rng(1).standard_normal((11, features.shape[1])).astype(np.float32)
    for threads in (1, 3):
        kernel = Kernel(features, normalisation, threads, instruction_set)
        assert relative_error(kernel.filter(values, threads=threads), values @ matrix.T) < 3e-6


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("dimensions", [1, 2, 3, 5, 6, 9])
def test_transposed_filter(dimensions, normalisation):
    kernel = Kernel(points(dimensions), normalisation)
    generator = np.random.default_rng(2)
    x, y = generator.standard_normal((2, 1, kernel.points)).astype(np.float32)
    forward = np.dot(y.ravel().astype(float), kernel.filter(x).ravel())
    backward = np.dot(kernel.filter(y, transposed=True).ravel().astype(float), x.ravel())
    assert forward == pytest.approx(backward, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5, 6])
def test_the_gaussian_itself(dimensions):
    # The lattice approximates exp(-d^2 / 2), but for a factor; with every vertex occupied, as on a dense cloud, to 15%.
    features = np.random.default_rng(0).uniform(0, 1.5, (dimensions, 1500)).astype(np.float32)
    values = (features[0] > 0.7).astype(np.float32)[None]
    squared = ((features[:, :, None] - features[:, None]) ** 2).sum(0)
    exact = np.exp(-squared / 2) / np.exp(-squared / 2).sum(1, keepdims=True)
    found = Kernel(features, "after").filter(values)[0]
    assert np.abs(found - exact @ values[0]).mean() < 0.05
    assert np.corrcoef(found, exact @ values[0])[0, 1] > 0.98


@pytest.mark.parametrize("dimensions", [20, 60, 128])
def test_many_dimensions(dimensions):
    # The numbers of vertices take several words.
    features = points(dimensions, 20)
    found = Kernel(features, "none").filter(np.eye(20, dtype=np.float32)).T
    if dimensions < 100:
        assert relative_error(found, lattice_oracle.lattice_matrix(features.T.astype(float))) < 1e-5
    assert (np.diag(found) > 0).all()
    with pytest.raises(ValueError, match="expected 1 to 128 features, got 129"):
        Kernel(np.zeros((129, 3)))


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("kind", ["number", "per label", "matrix"])
def test_mean_field(dimensions, kind, instruction_set):
    generator = np.random.default_rng(3)
    labels, count = 5, 60
    energies = generator.uniform(0, 3, (labels, count)).astype(np.float32)
    pairwise, matrices = [], []
    for seed, normalisation in enumerate(NORMALISATIONS):
        features = points(dimensions, count, seed)
        scale = 0.05 if normalisation == "none" else 1.0
        gain = {
            "number": np.float32(2 * scale),
            "per label": np.float32(scale * generator.uniform(-1, 3, labels)),
            "matrix": np.float32(scale * generator.standard_normal((labels, labels))),
        }[kind]
        pairwise.append(Pairwise(Kernel(features, normalisation, 1, instruction_set), gain))
        dense = gain if gain.ndim == 2 else gain * np.eye(labels)
        matrices.append((lattice_oracle.kernel_matrix(features.T.astype(float), normalisation), dense))
    expected = lattice_oracle.mean_field_with(matrices, -energies.astype(float), 4)
    for threads in (1, 2):
        found = mean_field(pairwise, energies, 4, energies=True, threads=threads, instruction_set=instruction_set)
        assert np.abs(found - expected).max() < 2e-5


@pytest.mark.parametrize("labels", [1, 7, 8, 9, 24, 25, 33])
def test_compatibilities_of_any_number_of_labels(labels):
    generator = np.random.default_rng(4)
    features, energies = points(3), generator.uniform(0, 3, (labels, 60)).astype(np.float32)
    matrix = lattice_oracle.kernel_matrix(features.T.astype(float), "symmetric")
    gain = np.float32(generator.standard_normal((labels, labels)))
    expected = lattice_oracle.mean_field_with([(matrix, gain)], -energies.astype(float), 3)
    found = mean_field([Pairwise(Kernel(features), gain)], energies, 3, energies=True)
    assert np.abs(found - expected).max() < 2e-5


def test_without_pairwise_terms():
    energies = np.random.default_rng(5).uniform(0, 3, (4, 50)).astype(np.float32)
    for iterations in (0, 3):
        found = mean_field([], energies, iterations, energies=True)
        assert np.abs(found - lattice_oracle.normalised(-energies.astype(float))).max() < 1e-6


def test_infinite_and_huge_energies():
    energies = np.float32([[0, 1e30, 3e4, -1e30], [1, 0, 3e4 + 1, 1e30], [-1e30, 0, 3e4, 0]])
    found = mean_field([], energies, 0, energies=True)
    expected = lattice_oracle.normalised(-energies.astype(float))
    assert np.abs(found - expected).max() < 1e-3


def test_pixels_and_a_list_of_points_agree():
    generator = np.random.default_rng(6)
    image = generator.integers(0, 256, (3, 40, 37))
    values = generator.standard_normal((4, 40, 37)).astype(np.float32)
    y, x = np.indices((40, 37), np.float32)
    features = np.stack([x / np.float32(7), y / np.float32(9), *(image / np.float32(25)).astype(np.float32)])
    expected = Kernel.of_image(40, 37, (7, 9), image, (25, 25, 25)).filter(values)
    assert np.abs(Kernel(features).filter(values) - expected).max() < 1e-6
    listed = Kernel(features.reshape(5, -1)).filter(values.reshape(4, -1))
    assert np.abs(listed.reshape(values.shape) - expected).max() < 1e-6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell a process's memory")
def test_kernels_are_freed():
    features = points(5, 200_000)
    sizes = []
    for _ in range(8):
        Kernel(features)
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]))
    assert sizes[-1] < 1.5 * sizes[1]


def test_bad_input():
    kernel = Kernel(points(2))
    wrong = [
        (
            lambda: Kernel(np.zeros(3)),
            r"features: expected \(d, N\) or \(d, H, W\) with at least one point, got \(3,\)",
        ),
        (lambda: Kernel(np.zeros((0, 3))), "features: expected"),
        (lambda: Kernel(np.full((2, 3), np.nan)), "features: expected finite values"),
        (lambda: Kernel(np.zeros((2, 3)), "both"), "normalisation: expected one of none, before, after, symmetric"),
        (lambda: Kernel(np.full((2, 3), 1e6)), "sigma is too small"),
        (lambda: Kernel(np.zeros((2, 3)), threads=0), "threads: expected a whole number from 1"),
        (lambda: Kernel.of_image(3, 4, (1, -1)), "sigma: expected a number above 0, got -1"),
        (lambda: kernel.filter(np.zeros((2, 59))), r"values: expected \(C, 60\) or \(C, H, W\), got \(2, 59\)"),
        (lambda: mean_field([Pairwise(kernel, 1.0)], np.zeros((2, 5)), 1), r"unary: expected shape \(2, 60\)"),
        (
            lambda: mean_field([Pairwise(kernel, np.zeros(3))], np.zeros((2, 60)), 1),
            r"compatibility: expected shape \(2,\), got \(3,\)",
        ),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
