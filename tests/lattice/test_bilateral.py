"""The bilateral filter: against the exact Gaussian, against the lattice as a dense matrix in float64, and against its
implementation in torch operations."""

import numpy as np
import pytest
import torch
from skimage import data
from torch.nn.functional import interpolate

from getam import DenseEnergyLoss, bilateral_filter
from getam.lattice.bilateral import _filter, _native, torch_lattice
from tests.conftest import relative_error
from tests.helpers import lattice_oracle

SIGMA_RGB, SIGMA_XY = 15.0, 50.0


def random_inputs(batch=2, channels=5, height=20, width=31, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, 3, height // 3 + 1, width // 3 + 1), generator=generator)
    images = interpolate(images.float(), scale_factor=3)[:, :, :height, :width]  # patches: pixels share simplices
    images += 4 * torch.randn(images.shape, generator=generator)
    return images, torch.randn(batch, channels, height, width, generator=generator)


def crop(photograph: str, side: int) -> torch.Tensor:
    """The middle of one of scikit-image's photographs: (1, 3, side, side)."""
    image = getattr(data, photograph)()
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return torch.from_numpy(image[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None]


def exact_filter(images_rgb: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The unnormalised Gaussian sum over all pairs of pixels, in float64, for one image."""
    height, width = images_rgb.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    position = torch.stack([x, y]).flatten(1).double() / SIGMA_XY
    features = torch.cat([position, images_rgb[0].double().flatten(1) / SIGMA_RGB]).T.contiguous()
    flat = values[0].double().flatten(1).T
    rows = [
        torch.cdist(some, features, compute_mode="donot_use_mm_for_euclid_dist").square().div(-2).exp() @ flat
        for some in features.split(1024)
    ]
    return torch.cat(rows).T.reshape(values.shape)


@pytest.mark.parametrize("photograph", ["astronaut", "coffee", "chelsea"])
@pytest.mark.parametrize("side", [64, pytest.param(128, marks=pytest.mark.slow)])
def test_exact_kernel(photograph, side):
    images = crop(photograph, side)
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    values = torch.cat(
        [torch.ones(1, 1, side, side), interpolate(noise, size=(side, side), mode="bilinear").softmax(1)], 1
    )
    found = bilateral_filter(images, values, SIGMA_RGB, SIGMA_XY).double()
    expected = exact_filter(images, values)
    ratio = found[:, 0] / expected[:, 0]
    assert 0.5 < ratio.mean() < 0.62
    assert ratio.std() < 0.07
    for ours, exact in zip(found[0], expected[0], strict=True):
        scaled = exact * (ours * exact).sum() / exact.square().sum()
        assert (ours - scaled).norm() / scaled.norm() < 0.08


@pytest.mark.parametrize("kind", ["random colours", "grey", "one colour"])
def test_against_the_lattice_as_a_matrix(kind):
    # Grey pixels, and all of a column or row 0, lie exactly on faces of the lattice.
    colours = {"random colours": (9, 8, 3), "grey": (9, 8, 1), "one colour": (1, 1, 3)}[kind]
    image = np.broadcast_to(np.random.default_rng(0).integers(0, 256, colours), (9, 8, 3))
    features = lattice_oracle.bilateral_features(image, 37.0, 6.1)
    images = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    _, values = random_inputs(1, 4, 9, 8)
    for transposed in (False, True):
        matrix = torch.from_numpy(lattice_oracle.lattice_matrix(features, reversed_blur=transposed))
        expected = (values.double().flatten(2) @ matrix.T).view_as(values)
        assert relative_error(_filter(images, values, 37.0, 6.1, transposed), expected) < 2e-6
        in_torch = torch_lattice.bilateral_filter(images, values, 37.0, 6.1, transposed)
        assert relative_error(in_torch, expected) < 2e-6


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("channels", [1, 3, 8, 21, 33, 81, 130])
def test_implementations_agree(channels, threads, instruction_set):
    images, values = random_inputs(2, channels)
    for transposed in (False, True):
        expected = torch_lattice.bilateral_filter(images, values, SIGMA_RGB, SIGMA_XY, transposed)
        found = _native.bilateral_filter(images, values, SIGMA_RGB, SIGMA_XY, transposed, threads, instruction_set)
        assert relative_error(found, expected) < 2e-6


@pytest.mark.parametrize("photograph", ["astronaut", "coffee"])
def test_implementations_agree_on_photographs(photograph):
    images = crop(photograph, 128)
    values = torch.rand(1, 4, 128, 128, generator=torch.Generator().manual_seed(0))
    expected = torch_lattice.bilateral_filter(images, values, SIGMA_RGB, SIGMA_XY)
    assert relative_error(bilateral_filter(images, values, SIGMA_RGB, SIGMA_XY), expected) < 2e-6


def test_linear_and_one_channel_at_a_time():
    images, x = random_inputs()
    _, y = random_inputs(seed=1)

    def w(values):
        return bilateral_filter(images, values, SIGMA_RGB, SIGMA_XY)

    assert relative_error(w(2 * x - 3 * y), 2 * w(x) - 3 * w(y)) < 2e-6
    assert relative_error(torch.cat([w(x[:, k : k + 1]) for k in range(x.shape[1])], 1), w(x)) < 1e-6


def test_images_of_a_batch_do_not_interact():
    images, values = random_inputs(3)
    together = bilateral_filter(images, values, SIGMA_RGB, SIGMA_XY)
    for image, value, found in zip(images, values, together, strict=True):
        assert relative_error(bilateral_filter(image[None], value[None], SIGMA_RGB, SIGMA_XY)[0], found) < 1e-6


def test_backward_is_the_exact_transpose():
    images, x = random_inputs()
    _, y = random_inputs(seed=1)
    x.requires_grad_()
    filtered = bilateral_filter(images, x, SIGMA_RGB, SIGMA_XY)
    (gradient,) = torch.autograd.grad((filtered * y).sum(), x)
    forward = (y.double() * filtered.detach().double()).sum()
    assert (gradient.double() * x.detach().double()).sum() == pytest.approx(float(forward), rel=1e-5)
    # W is not symmetric: the forward operator would not do.
    assert relative_error(bilateral_filter(images, y, SIGMA_RGB, SIGMA_XY), gradient) > 1e-2


def test_operator():
    images, values = random_inputs(1, 3, 9, 8)
    values.requires_grad_()
    for transposed in (False, True):
        torch.library.opcheck(_filter, (images, values, SIGMA_RGB, SIGMA_XY, transposed))


def test_second_gradient():
    images, x = random_inputs(1, 1, 6, 5)
    _, y = random_inputs(1, 1, 6, 5, seed=1)
    x.requires_grad_()
    filtered = bilateral_filter(images, x, SIGMA_RGB, SIGMA_XY)
    (gradient,) = torch.autograd.grad(filtered.square().sum(), x, create_graph=True)
    (twice,) = torch.autograd.grad((gradient * y).sum(), x)
    # The gradient is 2 W'W x, so its product with y has the gradient 2 W'W y.
    expected = 2 * _filter(images, _filter(images, y, SIGMA_RGB, SIGMA_XY, False), SIGMA_RGB, SIGMA_XY, True)
    assert relative_error(twice, expected) < 2e-6


def test_memory_formats_and_types():
    images, values = random_inputs()
    expected = bilateral_filter(images, values, SIGMA_RGB, SIGMA_XY)
    strange = values.transpose(2, 3).contiguous().transpose(2, 3)
    for variant in (strange, values.to(memory_format=torch.channels_last), values.double()):
        found = bilateral_filter(images.to(memory_format=torch.channels_last), variant, SIGMA_RGB, SIGMA_XY)
        assert torch.equal(found, expected)
        assert found.dtype == torch.float32
        assert found.is_contiguous()
    whole = images.round().clamp(0, 255)
    assert torch.equal(
        bilateral_filter(whole.to(torch.uint8), values, SIGMA_RGB, SIGMA_XY),
        bilateral_filter(whole, values, SIGMA_RGB, SIGMA_XY),
    )


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_nothing_to_filter(shape):
    images = torch.zeros(shape[0], 3, *shape[2:])
    values = torch.zeros(shape, requires_grad=True)
    filtered = bilateral_filter(images, values, SIGMA_RGB, SIGMA_XY)
    assert filtered.shape == shape
    filtered.sum().backward()
    assert values.grad.shape == shape


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (33, 65)])
@pytest.mark.parametrize("threads", [1, 100])
def test_thin_images(size, threads):
    images, values = random_inputs(1, 2, *size)
    expected = torch_lattice.bilateral_filter(images, values, SIGMA_RGB, SIGMA_XY)
    found = _native.bilateral_filter(images, values, SIGMA_RGB, SIGMA_XY, False, threads)
    assert relative_error(found, expected) < 2e-6


def test_bad_input():
    images, values = random_inputs()
    with pytest.raises(ValueError, match=r"images_rgb: expected shape \(2, 3, 20, 31\), got \(1, 3, 20, 31\)"):
        bilateral_filter(images[:1], values, SIGMA_RGB, SIGMA_XY)
    with pytest.raises(ValueError, match=r"values: expected \(B, K, H, W\), got \(5, 20, 31\)"):
        bilateral_filter(images[0], values[0], SIGMA_RGB, SIGMA_XY)
    with pytest.raises(ValueError, match="sigma_rgb: expected a number above 0, got 0"):
        bilateral_filter(images, values, 0, SIGMA_XY)
    with pytest.raises(ValueError, match="sigma_xy: expected a number above 0, got nan"):
        bilateral_filter(images, values, SIGMA_RGB, float("nan"))
    for bad in (float("nan"), float("inf")):
        broken = images.clone()
        broken[1, 2, 3, 4] = bad
        with pytest.raises(ValueError, match="images_rgb: expected finite values"):
            bilateral_filter(broken, values, SIGMA_RGB, SIGMA_XY)
    with pytest.raises(ValueError, match=r"images_rgb: expected shape \(2, 3, 20, 31\), got \(2, 3, 10, 31\)"):
        torch.ops.getam.bilateral_filter(images[:, :, ::2], values, SIGMA_RGB, SIGMA_XY, False)
    # A NaN among the values stays in its channel and image.
    values[0, 0, 0, 0] = float("nan")
    assert torch.isfinite(bilateral_filter(images, values, SIGMA_RGB, SIGMA_XY)[:, 1:]).all()


@pytest.mark.parametrize("function", [bilateral_filter, torch_lattice.bilateral_filter])
@pytest.mark.parametrize("sigma", [1e-3, 1e-9, 1e-30])
def test_sigma_far_too_small(function, sigma):
    images, values = random_inputs()
    with pytest.raises(ValueError, match="sigma is too small"):
        function(images, values, sigma, SIGMA_XY)


def test_smallest_sigma_gives_separate_pixels():
    images, values = random_inputs(1, 2, 6, 7)
    expected = torch_lattice.bilateral_filter(images, values, 0.5, SIGMA_XY)
    assert relative_error(bilateral_filter(images, values, 0.5, SIGMA_XY), expected) < 2e-5


class TestDenseEnergy:
    """The loss against its definition, with the lattice as a matrix."""

    @pytest.fixture
    def inputs(self):
        generator = torch.Generator().manual_seed(3)
        images = torch.randint(0, 256, (2, 3, 12, 16), generator=generator)
        probabilities = torch.randn(2, 4, 12, 16, generator=generator).mul(2).softmax(1)
        valid = torch.ones(2, 12, 16)
        valid[1, :, 11:] = 0
        labels = torch.tensor([0, 1, 3, 255])[torch.randint(0, 4, (2, 12, 16), generator=generator)]
        return images, probabilities, valid, labels

    def test_definition(self, inputs):
        images, probabilities, valid, labels = inputs
        scale, weight = 0.5, 1e-3
        small = interpolate(probabilities.double(), scale_factor=scale, mode="bilinear", align_corners=False)
        nearest = (slice(None), slice(None, None, 2), slice(None, None, 2))
        inside = small * valid[nearest][:, None]
        gate = (valid[nearest] - small.amax(1)).clamp_min(0).where(labels[nearest] != 255, 1)[:, None]
        filtered = torch.empty_like(inside)
        for image, values, out in zip(images[:, :, ::2, ::2], inside, filtered, strict=True):
            features = lattice_oracle.bilateral_features(image.permute(1, 2, 0).numpy(), 15, 100 * scale)
            matrix = torch.from_numpy(lattice_oracle.lattice_matrix(features))
            out.copy_((values.flatten(1) @ matrix.T).view_as(values))
        expected = -weight * (inside * gate * filtered).sum() / 2
        slope = -2 * weight * gate * filtered * valid[nearest][:, None] / 2
        # The bilinear half of an even size takes the mean of 2 x 2 pixels.
        expected_gradient = slope.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4

        probabilities.requires_grad_()
        loss = DenseEnergyLoss(weight)(images, probabilities, valid, labels)
        loss.backward()
        assert loss.item() == pytest.approx(float(expected), rel=1e-5)
        assert relative_error(probabilities.grad, expected_gradient) < 1e-5

    def test_mixed_precision(self, inputs):
        images, probabilities, valid, labels = inputs
        low = probabilities.bfloat16()
        expected = DenseEnergyLoss()(images, low.float(), valid, labels)
        assert DenseEnergyLoss()(images, low, valid.bool(), labels.to(torch.uint8)) == expected

    def test_bad_input(self, inputs):
        images, probabilities, valid, labels = inputs
        loss = DenseEnergyLoss()
        with pytest.raises(ValueError, match=r"images_rgb: expected shape \(2, 3, 12, 16\), got \(1, 3, 12, 16\)"):
            loss(images[:1], probabilities, valid, labels)
        with pytest.raises(ValueError, match=r"valid: expected shape \(2, 12, 16\)"):
            loss(images, probabilities, valid[:, :1], labels)
        with pytest.raises(ValueError, match=r"labels: expected shape \(2, 12, 16\)"):
            loss(images, probabilities, valid, labels[:, :1])
        with pytest.raises(ValueError, match="sigma_rgb: expected a number above 0, got 0"):
            DenseEnergyLoss(sigma_rgb=0)


def test_a_batch_shares_one_lattice_in_torch():
    """Each image is filtered as if it were alone; one of them spans more colours than the others."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (3, 3, 20, 24), generator=generator) * torch.tensor([1, 0, 3])[:, None, None, None]
    values = torch.randn(3, 4, 20, 24, generator=generator)
    for transposed in (False, True):
        found = torch_lattice.bilateral_filter(images, values, 15.0, 20.0, transposed)
        alone = [
            torch_lattice.bilateral_filter(image[None], value[None], 15.0, 20.0, transposed)
            for image, value in zip(images, values, strict=True)
        ]
        assert relative_error(found, torch.cat(alone)) < 4e-7


def test_the_lattice_serves_both_directions():
    images = torch.randint(0, 256, (2, 3, 8, 9), generator=torch.Generator().manual_seed(6))
    values = torch.randn(2, 2, 8, 9, generator=torch.Generator().manual_seed(7)).requires_grad_()
    factors = torch.randn(2, 2, 8, 9, generator=torch.Generator().manual_seed(8))
    lattice = torch_lattice.bilateral_lattice(images, 15.0, 20.0)
    (found,) = torch.autograd.grad((torch_lattice.LatticeFilter.apply(values, lattice, False) * factors).sum(), values)
    (expected,) = torch.autograd.grad((bilateral_filter(images, values, 15.0, 20.0) * factors).sum(), values)
    assert relative_error(found, expected) < 1e-5


def test_parts_of_a_large_splat_give_the_same(monkeypatch):
    images = torch.randint(0, 256, (2, 3, 8, 9), generator=torch.Generator().manual_seed(6))
    values = torch.randn(2, 2, 8, 9, generator=torch.Generator().manual_seed(7))
    expected = torch_lattice.bilateral_filter(images, values, 15.0, 20.0)
    monkeypatch.setattr(torch_lattice, "_AT_ONCE", 0)
    assert torch.equal(torch_lattice.bilateral_filter(images, values, 15.0, 20.0), expected)


@pytest.mark.parametrize(("sigma_rgb", "sigma_xy"), [(15.0, 20.0), (3.0, 0.7), (200.0, 100.0)])
@pytest.mark.parametrize("size", [(17, 31), (1, 40), (40, 1)])
def test_the_range_of_bytes_is_known_beforehand(monkeypatch, size, sigma_rgb, sigma_xy):
    """Images of bytes give the lattice of floats to the bit, and nobody asks for the range of their coordinates."""
    chance = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=chance)
    images[0] = torch.where(images[0] > 127, 255, 0)  # the corners of the range
    values = torch.rand(2, 4, *size, generator=chance)
    found = [torch_lattice.bilateral_filter(images.float(), values, sigma_rgb, sigma_xy, t) for t in (False, True)]
    monkeypatch.setattr(torch_lattice, "numbering", lambda *_: pytest.fail("the device is asked"))
    known = [torch_lattice.bilateral_filter(images, values, sigma_rgb, sigma_xy, t) for t in (False, True)]
    assert all(map(torch.equal, found, known))


def test_bounds_too_wide_for_numbers_are_looked_up():
    """A gray image has few vertices where its sigma would leave room for more than 2^63."""
    images = torch.full((1, 3, 9, 9), 128, dtype=torch.uint8)
    values = torch.rand(1, 2, 9, 9, generator=torch.Generator().manual_seed(0))
    bounds = [(0, 8 / 5)] * 2 + [(0, 255 / 0.01)] * 3
    assert torch_lattice.known_numbering(bounds, 1, images.device) is None
    found = torch_lattice.bilateral_filter(images, values, 0.01, 5.0)
    assert torch.equal(found, torch_lattice.bilateral_filter(images.float(), values, 0.01, 5.0))
