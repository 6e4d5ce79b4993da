"""Mean field as a layer: against the dense CRF, dense matrices in float64 and numerical gradients."""

import numpy as np
import pytest
import torch
from torch.func import functional_call

from getam import MeanField, dense_crf
from tests.conftest import relative_error
from tests.helpers import lattice_oracle

SETTINGS = {"gaussian": (3.0, 3.0), "bilateral": (6.1, 37.0, 4.0)}


def random_inputs(labels=3, height=6, width=5, batch=1, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)
    return images, torch.randn(batch, labels, height, width, generator=generator, dtype=dtype)


def random_parameters(labels=3, dtype=torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    shapes = {"weights": (2, labels), "compatibility": (labels, labels)}
    return {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_first_it_is_the_dense_crf(iterations, dtype):
    images, scores = random_inputs(5, 30, 37, 2, dtype)
    found = MeanField(iterations, 5, **SETTINGS)(images, scores)
    assert found.dtype == dtype
    for image, p, marginals in zip(images, scores.softmax(1), found, strict=True):
        expected = dense_crf(image.permute(1, 2, 0), p, iterations, **SETTINGS, negligible=0)
        assert relative_error(marginals, expected) < 2e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_weights_and_compatibilities(dtype):
    images, scores = random_inputs(4, 8, 9, 1, dtype)
    parameters = random_parameters(4, dtype)
    found = functional_call(MeanField(3, 4, **SETTINGS), parameters, (images, scores))[0]
    image = images[0].permute(1, 2, 0).numpy()
    features = [
        lattice_oracle.bilateral_features(image, 1, 3.0)[:, :2],
        lattice_oracle.bilateral_features(image, 37.0, 6.1),
    ]
    gains = [parameters["compatibility"].double().numpy() * w for w in parameters["weights"].double().numpy()]
    matrices = [
        (lattice_oracle.kernel_matrix(points, "symmetric"), gain) for points, gain in zip(features, gains, strict=True)
    ]
    expected = lattice_oracle.mean_field_with(matrices, scores[0].double().flatten(1).numpy(), 3)
    assert np.abs(found.flatten(1).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("iterations", [1, 3])
def test_numerical_gradients(iterations):
    images, scores = random_inputs()
    layer = MeanField(iterations, 3, **SETTINGS)
    parameters = random_parameters()

    def marginals(scores, weights, compatibility):
        return functional_call(layer, {"weights": weights, "compatibility": compatibility}, (images, scores))

    inputs = [tensor.requires_grad_() for tensor in (scores, *parameters.values())]
    assert torch.autograd.gradcheck(marginals, inputs)
    assert torch.autograd.gradgradcheck(marginals, inputs)


def test_compiled_gradients():
    # In float32 the lattice is the compiled one.
    images, scores = random_inputs(5, 20, 23, 2)
    gradients = []
    for dtype in (torch.float64, torch.float32):
        layer = MeanField(4, 5, **SETTINGS)
        layer.load_state_dict(random_parameters(5, torch.float32))
        leaf = scores.to(dtype, copy=True).requires_grad_()
        (layer(images, leaf) * random_inputs(5, 20, 23, 2, seed=1)[1].to(dtype)).sum().backward()
        gradients.append((leaf.grad, layer.weights.grad, layer.compatibility.grad))
    for expected, found in zip(*gradients, strict=True):
        assert relative_error(found, expected) < 1e-4


def test_memory_is_linear_in_the_iterations():
    images, scores = random_inputs(4, 30, 40, 1, torch.float32)
    kept = {}
    for iterations in (1, 2, 4, 8):
        sizes: dict[int, int] = {}

        def keep(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            marginals = MeanField(iterations, 4, **SETTINGS)(images, scores.requires_grad_())
            kept[iterations] = sum(sizes.values())
        del marginals
    per_iteration = kept[2] - kept[1]
    assert kept[8] - kept[4] == 2 * (kept[4] - kept[2]) == 4 * per_iteration
    assert per_iteration <= 5 * scores.nbytes


def test_training_finds_the_compatibility():
    # Two labels that change places: a matrix off the diagonal explains them, Potts does not.
    images, scores = random_inputs(2, 12, 12, 2, torch.float32)
    target = MeanField(1, 2, **SETTINGS)
    with torch.no_grad():
        target.compatibility.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        expected = target(images, scores)
    layer = MeanField(1, 2, **SETTINGS)
    optimiser = torch.optim.Adam(layer.parameters(), 0.2)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(layer(images, scores), expected)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]


def test_mixed_precision():
    images, scores = random_inputs(3, 9, 8, 1, torch.float32)
    layer = MeanField(2, 3, **SETTINGS)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(images, scores.bfloat16())
    assert found.dtype == torch.float32
    assert torch.equal(found, layer(images, scores.bfloat16().float()))


def test_logits():
    images, scores = random_inputs(3, 9, 8)
    layer = MeanField(2, 3, **SETTINGS)
    assert torch.equal(layer.scores(images, scores).softmax(1), layer(images, scores))
    assert layer(images[:0], scores[:0]).shape == (0, 3, 9, 8)


def test_bad_input():
    images, scores = random_inputs(3, 9, 8)
    layer = MeanField(2, 3)
    with pytest.raises(ValueError, match=r"scores: expected shape \(1, 3, 9, 8\), got \(1, 2, 9, 8\)"):
        layer(images, scores[:, :2])
    with pytest.raises(ValueError, match=r"scores: expected shape \(1, 3, 9, 7\)"):
        layer(images[..., :7], scores)
    with pytest.raises(ValueError, match=r"images_rgb: expected shape \(1, 3, 9, 8\), got \(1, 1, 9, 8\)"):
        layer(images[:, :1], scores)
    with pytest.raises(ValueError, match="iterations: expected a whole number from 0, got -1"):
        MeanField(-1, 3)
    with pytest.raises(ValueError, match="labels: expected a whole number from 1, got 0"):
        MeanField(1, 0)
    with pytest.raises(ValueError, match=r"gaussian: expected \(sigma_xy, compatibility\), all above 0"):
        MeanField(1, 3, gaussian=(0, 3))
