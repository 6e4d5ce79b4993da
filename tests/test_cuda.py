"""The same numbers on a GPU as on the CPU; for machines that have one."""

import pytest
import torch

from getam import (
    activation_maps,
    build_model,
    complete_labels,
    cross_entropy_loss,
    load_recipe,
    normalise_maps,
    refine_maps,
    saliency_loss,
    saliency_target,
)
from getam.activation import METHODS
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
