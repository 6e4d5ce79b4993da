"""The same numbers on a GPU as on the CPU; for machines that have one."""

import numpy as np
import pytest
import torch
from PIL import Image

from getam import (
    DenseEnergyLoss,
    activation_maps,
    bilateral_filter,
    build_model,
    complete_labels,
    cross_entropy_loss,
    dense_crf,
    dense_crf_batch,
    load_experiment,
    load_recipe,
    normalise_maps,
    open_dataset,
    predict_probabilities,
    refine_maps,
    saliency_loss,
    saliency_target,
    train,
)
from getam.cli.command import main
from getam.config.choices import METHODS
from getam.data.images import read_mask
from getam.evaluation.encoding import encode
from getam.evaluation.prediction import predict_files
from getam.evaluation.probabilities import read_probabilities
from getam.lattice import torch_lattice
from getam.lattice.forms import lattice_form
from getam.training.history import read_history
from tests.conftest import relative_error

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
LABELS = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]])


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    on_cpu = build_model("vit_micro_hybrid", 3, decoder_width=16).double().eval()
    on_gpu = build_model("vit_micro_hybrid", 3, decoder_width=16).double().eval()
    on_gpu.load_state_dict(on_cpu.state_dict())
    return on_cpu, on_gpu.cuda()


@pytest.fixture(scope="module")
def images_rgb():
    return torch.randint(0, 256, (3, 3, 64, 96), generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("method", METHODS)
def test_maps(networks, images_rgb, method):
    expected, found = (
        activation_maps(network, (images_rgb / 255).to(device), LABELS.to(device), method)
        for network, device in zip(networks, ("cpu", "cuda"), strict=True)
    )
    assert relative_error(found.cpu(), expected) < 1e-9


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_labels_and_losses(images_rgb, preset):
    recipe = load_recipe(preset, opening=3)
    maps = torch.rand(3, 3, 8, 12, generator=torch.Generator().manual_seed(1)).double() * LABELS[:, :, None, None]
    saliency = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(2)) > 0.5
    logits = torch.randn(3, 4, 64, 96, generator=torch.Generator().manual_seed(3))
    outputs = []
    for device in ("cpu", "cuda"):
        refined = normalise_maps(refine_maps(maps.to(device), images_rgb.to(device)))
        pixels, mined = complete_labels(refined, saliency.to(device), LABELS.to(device), recipe)
        target = saliency_target(saliency.to(device), mined, recipe)
        losses = torch.stack([cross_entropy_loss(logits.to(device), pixels), saliency_loss(logits.to(device), target)])
        outputs.append([x.cpu() for x in (refined, pixels, mined, target, losses)])
    assert relative_error(outputs[1][0], outputs[0][0]) < 1e-9
    for ours, theirs in zip(outputs[1][1:4], outputs[0][1:4], strict=True):
        assert torch.equal(ours, theirs)
    assert relative_error(outputs[1][4], outputs[0][4]) < 1e-5


def test_bilateral_filter(images_rgb):
    values = torch.randn(3, 5, 64, 96, generator=torch.Generator().manual_seed(4))
    outputs = []
    for device in ("cpu", "cuda"):
        x = values.to(device).requires_grad_()
        filtered = bilateral_filter(images_rgb.to(device), x, 15, 50)
        (gradient,) = torch.autograd.grad(filtered.square().sum(), x)
        outputs.append((filtered.detach().cpu(), gradient.cpu()))
    for found, expected in zip(outputs[1], outputs[0], strict=True):
        assert relative_error(found, expected) < 1e-5


def test_dense_energy(images_rgb):
    probabilities = torch.randn(3, 4, 64, 96, generator=torch.Generator().manual_seed(5)).softmax(1)
    valid = torch.ones(3, 64, 96)
    labels = torch.randint(0, 4, (3, 64, 96), generator=torch.Generator().manual_seed(6))
    losses = [
        DenseEnergyLoss()(*(x.to(d) for x in (images_rgb, probabilities, valid, labels))) for d in ("cpu", "cuda")
    ]
    assert relative_error(losses[1].cpu(), losses[0]) < 1e-5


@pytest.mark.parametrize("labels", [2, 21])
def test_dense_crf(images_rgb, labels):
    image = images_rgb[0].permute(1, 2, 0).to(torch.uint8)
    probabilities = torch.randn(labels, 64, 96, generator=torch.Generator().manual_seed(7)).softmax(0)
    expected = dense_crf(image, probabilities, negligible=0)
    for found in (dense_crf(image, probabilities.cuda()), dense_crf(image.cuda(), probabilities.cuda())):
        assert found.is_cuda
        # 1.2e-4 was found with additions in any order, as a GPU makes them.
        assert (found.cpu() - expected).abs().max() < 2e-4


def test_dense_crf_of_a_batch(images_rgb):
    """Images of one size share a lattice; one of another size does not."""
    images = [image.permute(1, 2, 0).to(torch.uint8) for image in images_rgb]
    images[1] = images[1][:40, :50]
    generator = torch.Generator().manual_seed(8)
    probabilities = [torch.randn(4, *image.shape[:2], generator=generator).softmax(0) for image in images]
    found = dense_crf_batch(images, [p.cuda() for p in probabilities])
    for marginals, image, p in zip(found, images, probabilities, strict=True):
        assert marginals.is_cuda
        assert (marginals.cpu() - dense_crf(image, p, negligible=0)).abs().max() < 2e-4


def test_forms_of_the_lattice(images_rgb):
    """On a GPU with triton and a C compiler: the kernels against torch operations."""
    form = lattice_form(torch.device("cuda", 0))
    if form is torch_lattice.TorchLattice:
        pytest.skip("the lattice runs in torch operations here")
    images, values = images_rgb.cuda(), torch.randn(3, 21, 64, 96, generator=torch.Generator().manual_seed(9)).cuda()
    lattices = [
        torch_lattice.bilateral_lattice(images, 15.0, 50.0, kind) for kind in (form, torch_lattice.TorchLattice)
    ]
    assert torch.equal(lattices[0].weights, lattices[1].weights)
    assert lattices[0].vertices == lattices[1].vertices
    for transposed in (False, True):
        found, expected = (torch_lattice.filter_batch(lattice, values, transposed).cpu() for lattice in lattices)
        assert relative_error(found, expected) < 1.2e-4


def test_masks(tmp_path):
    """`getam refine --device cuda`: the CPU's labels, but where two are as good as equal."""
    generator = np.random.default_rng(0)
    folders = [tmp_path / name for name in ("probabilities", "images", "masks")]
    cases = {}
    for folder in folders[:2]:
        folder.mkdir()
    for name, size in {"a": (40, 30), "b": (33, 50), "c": (40, 30)}.items():
        cases[name] = generator.integers(0, 256, (*size, 3), np.uint8), np.zeros((6, *size), np.float32)
        cases[name][1][[0, 2, 5]] = generator.dirichlet(np.ones(3), size).transpose(2, 0, 1)
        Image.fromarray(cases[name][0]).save(folders[1] / f"{name}.png")
        np.save(folders[0] / f"{name}.npy", cases[name][1])
    arguments = ["refine", *folders[:2], "--output", folders[2], "--device", "cuda", "--batch", 2, "--workers", 2]
    assert main([str(argument) for argument in arguments]) == 0
    for name, (image, probabilities) in cases.items():
        marginals = dense_crf(image, probabilities, negligible=0)
        mask = torch.from_numpy(read_mask(folders[2] / f"{name}.png")).long()
        assert (marginals.amax(0) - marginals.gather(0, mask[None])[0]).max() < 4e-4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training(small_experiment, tmp_path, precision):
    for device in ("cpu", "cuda"):
        experiment = load_experiment(
            small_experiment, {"training.precision": precision if device == "cuda" else "float32"}
        )
        train(experiment, tmp_path / device, device=device, workers=1)
    rows = {device: read_history(tmp_path / device) for device in ("cpu", "cuda")}
    for on_cpu, on_gpu in zip(rows["cpu"], rows["cuda"], strict=True):
        # The joint phase has dropout, whose chance is each device's own.
        tolerance = 0.02 if on_cpu["phase"] == "classification" else 0.2
        assert float(on_gpu["total"]) == pytest.approx(float(on_cpu["total"]), rel=tolerance)


def test_prediction(networks):
    image = torch.randint(0, 256, (50, 70, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    on_cpu, on_gpu = (predict_probabilities(network.float(), image, (32, 64)) for network in networks)
    assert on_gpu.device.type == "cuda"
    assert (on_cpu - on_gpu.cpu()).abs().max() < 1e-3


def test_files_of_probabilities(small_shapes, tmp_path):
    """Encoded on the GPU, and read back: the probabilities that the CPU writes, but for rounding."""
    torch.manual_seed(0)
    network = build_model("vit_micro_hybrid", 5, classifier="class_token", decoder_width=16).eval()
    split = open_dataset(small_shapes / "dataset").split("val")
    for device in ("cpu", "cuda"):
        paths = list(predict_files(network.to(device), split, split.ids, tmp_path / device, (32, 64), batch=4))
        assert [path.stem for path in paths] == list(split.ids)
    for name in split.ids:
        on_cpu, on_gpu = (read_probabilities(tmp_path / device / f"{name}.npz") for device in ("cpu", "cuda"))
        assert abs(on_cpu - on_gpu).max() < 1e-3


@pytest.mark.parametrize("sharpness", [1, 100])
def test_encoding(tmp_path, sharpness):
    logits = sharpness * torch.randn(5, 40, 50, generator=torch.Generator().manual_seed(8))
    probabilities = logits.softmax(0)
    expected, found = (encode(tmp_path / "a.npz", probabilities.to(device)) for device in ("cpu", "cuda"))
    assert (found.labels == expected.labels).all()
    assert found.count == expected.count
    # Where the rounding of the logarithm decides on a step, four differences are others.
    assert (found.code != expected.code).mean() < 1e-2
    with pytest.raises(ValueError, match="NaN or infinite"):
        encode(tmp_path / "a.npz", (probabilities / 0).cuda())
