"""Cases of test_triton_lattice.py, which runs them in Triton's interpreter, in a process of their own."""

import numpy as np
import pytest
import torch

from getam.lattice import torch_lattice, triton_lattice
from getam.lattice.forms import _difference
from getam.lattice.torch_lattice import TorchLattice
from getam.lattice.triton_lattice import TritonLattice
from tests.conftest import relative_error
from tests.helpers import lattice_oracle

SETTINGS = {"iterations": 3, "gaussian": (3.0, 3.0), "bilateral": (6.1, 37.0, 4.0)}


def large_programs(monkeypatch) -> None:
    """One program for all points: the interpreter needs a millisecond for an operation of a program, however large."""
    monkeypatch.setattr(triton_lattice, "_BLOCK", 2**13)
    monkeypatch.setattr(triton_lattice, "_AT_ONCE", 2**17)


def random_inputs(batch=2, channels=5, height=20, width=31):
    """Images (B, 3, H, W) with patches of colour, as pixels of photographs share simplices, and values."""
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (batch, 3, height // 3 + 1, width // 3 + 1), generator=generator)
    images = small.repeat_interleave(3, 2).repeat_interleave(3, 3)[:, :, :height, :width]
    return images.float(), torch.randn(batch, channels, height, width, generator=generator)


def check_same_vertices(found: TritonLattice, expected: TorchLattice) -> None:
    """Numbers of vertices may differ, the vertices may not."""
    assert torch.equal(found.weights, expected.weights)
    pairs = torch.stack([found.corners.flatten().long(), expected.corners.flatten()]).unique(dim=1)
    assert found.vertices == expected.vertices == pairs.shape[1]
    assert all(len(side.unique()) == pairs.shape[1] for side in pairs)


@pytest.mark.parametrize("kind", ["random colours", "grey", "one colour"])
def test_against_the_lattice_as_a_matrix(kind, monkeypatch):
    # Grey pixels, and all of a column or row 0, lie exactly on faces of the lattice. One case has several programs.
    if kind != "random colours":
        large_programs(monkeypatch)
    colours = {"random colours": (12, 13, 3), "grey": (12, 13, 1), "one colour": (1, 1, 3)}[kind]
    image = np.broadcast_to(np.random.default_rng(0).integers(0, 256, colours), (12, 13, 3))
    features = lattice_oracle.bilateral_features(image, 37.0, 6.1)
    images = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    _, values = random_inputs(1, 4, 12, 13)
    for transposed in (False, True):
        matrix = torch.from_numpy(lattice_oracle.lattice_matrix(features, reversed_blur=transposed))
        expected = (values.double().flatten(2) @ matrix.T).view_as(values)
        found = torch_lattice.bilateral_filter(images, values, 37.0, 6.1, transposed, TritonLattice)
        assert relative_error(found, expected) < 2e-6


@pytest.mark.parametrize("channels", [1, 3, 33])
def test_against_torch(channels, monkeypatch):
    large_programs(monkeypatch)
    images, values = random_inputs(channels=channels)
    check_same_vertices(
        *(torch_lattice.bilateral_lattice(images, 15.0, 50.0, f) for f in (TritonLattice, TorchLattice))
    )
    for transposed in (False, True):
        found, expected = (
            torch_lattice.bilateral_filter(images, values, 15.0, 50.0, transposed, form)
            for form in (TritonLattice, TorchLattice)
        )
        assert relative_error(found, expected) < 2e-6


def test_keys_beyond_doubles(monkeypatch):
    """There are 2^62 numbers: rounded to 53 bits, or cut to 32, those of some vertices would be equal."""
    large_programs(monkeypatch)
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(5, 300, generator=generator) * 700
    features[:, 1::2] = features[:, ::2] + 2 * torch.rand(5, 150, generator=generator)
    lattices = TritonLattice(features, 3), TorchLattice(features, 3)
    check_same_vertices(*lattices)
    assert lattices[0].vertices > 1500
    values = torch.randn(300, 2, generator=generator)
    assert relative_error(*(lattice.filter(values) for lattice in lattices)) < 2e-6


def test_a_nearly_full_table(monkeypatch):
    """Most searches pass slots of other vertices, and the first slot follows the last."""
    large_programs(monkeypatch)
    monkeypatch.setattr(triton_lattice, "_empty_table", lambda keys, device: torch.full((128,), -1, device=device))
    features = 8 * torch.rand(5, 400, generator=torch.Generator().manual_seed(4))
    points = next(n for n in range(1, 100) if TorchLattice(features[:, :n]).vertices >= 122)
    lattices = TritonLattice(features[:, :points]), TorchLattice(features[:, :points])
    assert 122 <= lattices[1].vertices <= 127
    check_same_vertices(*lattices)
    values = torch.randn(points, 2, generator=torch.Generator().manual_seed(5))
    assert relative_error(*(lattice.filter(values, transposed=True) for lattice in lattices)) < 2e-6


def test_mean_field_with_dense_matrices(monkeypatch):
    large_programs(monkeypatch)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    probabilities = generator.dirichlet(np.ones(4), (2, 5, 6)).transpose(0, 3, 1, 2).astype(np.float32)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2)
    found = torch_lattice.mean_field_batch(planes, torch.from_numpy(probabilities), **SETTINGS, form=TritonLattice)
    for i in range(2):
        expected = lattice_oracle.mean_field(images[i], probabilities[i], **SETTINGS)
        assert np.abs(found[i].numpy() - expected).max() < 1e-5


def test_mean_field_against_torch(monkeypatch):
    large_programs(monkeypatch)
    images, scores = random_inputs(2, 21, 14, 19)
    found, expected = (
        torch_lattice.mean_field_batch(images, (2 * scores).softmax(1), **SETTINGS, form=form)
        for form in (TritonLattice, TorchLattice)
    )
    assert (found - expected).abs().max() < 1.2e-4
    assert (found.sum(1) - 1).abs().max() < 1e-5


def test_gradient_and_double_precision(monkeypatch):
    large_programs(monkeypatch)
    images, values = random_inputs(1, 3, 9, 11)
    factors = torch.randn(values.shape, generator=torch.Generator().manual_seed(2))
    outputs = []
    for form in (TritonLattice, TorchLattice):
        lattice = torch_lattice.bilateral_lattice(images, 15.0, 20.0, form)
        x = values.clone().requires_grad_()
        (torch_lattice.LatticeFilter.apply(x, lattice, False) * factors).sum().backward()
        lattice.weights = lattice.weights.double()
        in_doubles = lattice.filter(values[0].flatten(1).T.double())
        outputs.append((x.grad, in_doubles))
    assert relative_error(outputs[0][0], outputs[1][0]) < 2e-6
    assert relative_error(outputs[0][1], outputs[1][1]) < 1e-13


def test_the_comparison_before_the_first_use(monkeypatch):
    large_programs(monkeypatch)
    assert _difference(torch.device("cpu")) < 1e-5
    right = TritonLattice.filter
    monkeypatch.setattr(TritonLattice, "filter", lambda self, *a, **k: right(self, *a, **k) * 1.001)
    assert _difference(torch.device("cpu")) > 1e-4


@pytest.mark.parametrize(
    ("scale", "wrong", "message"),
    [
        (1.0, float("nan"), "sigma is too small for an image of this range"),
        (1.0, float("inf"), "sigma is too small for an image of this range"),
        (1.0, 2.0**17, "sigma is too small for an image of this range"),
        (1e5, 0.0, "the lattice would need more than 2\\^63 vertices"),
    ],
)
def test_features_that_no_lattice_holds(scale, wrong, message):
    features = scale * torch.rand(5, 50, generator=torch.Generator().manual_seed(3))
    features[2, 7] = wrong
    for form in (TritonLattice, TorchLattice):
        with pytest.raises(ValueError, match=message):
            form(features)
