import pytest
import torch

from getam import load_recipe
from getam.config.experiment import Maps
from getam.method.pseudo_labels import make_targets


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
