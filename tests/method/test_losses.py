"""The losses against their definitions on probabilities in float64, and at their edges."""

import pytest
import torch
from torch.autograd import gradcheck

from getam import DenseEnergyLoss, classification_loss, cross_entropy_loss, saliency_loss


@pytest.fixture
def logits():
    return torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture
def labels():
    values = torch.tensor([0, 1, 2, 3, 255], dtype=torch.uint8)
    return values[torch.randint(0, 5, (2, 6, 5), generator=torch.Generator().manual_seed(1))]


def test_classification():
    logits, labels = torch.tensor([[2.0, -1, 0.5]]).double(), torch.tensor([[1, 0, 0]])
    p = torch.sigmoid(logits)
    expected = -torch.stack([p[0, 0].log(), (1 - p[0, 1]).log(), (1 - p[0, 2]).log()]).mean()
    assert classification_loss(logits.float(), labels) == pytest.approx(float(expected), rel=1e-6)


def test_cross_entropy(logits, labels):
    p = logits.double().softmax(1)
    terms = {0: [], 1: []}
    for b, y, x in torch.nonzero(labels != 255).tolist():
        label = int(labels[b, y, x])
        terms[int(label > 0)].append(-float(p[b, label, y, x].log()))
    means = [sum(values) / len(values) for values in terms.values()]
    together = sum(terms[0] + terms[1]) / len(terms[0] + terms[1])
    assert float(cross_entropy_loss(logits, labels)) == pytest.approx(sum(means), rel=1e-6)
    assert float(cross_entropy_loss(logits, labels, split=False)) == pytest.approx(together, rel=1e-6)


def test_an_empty_side_counts_zero(logits, labels):
    foreground = labels.where(labels != 0, 255)
    background = labels.where(labels == 0, 255)
    both = cross_entropy_loss(logits, labels)
    assert torch.isclose(cross_entropy_loss(logits, foreground) + cross_entropy_loss(logits, background), both)
    unknown = torch.full_like(labels, 255)
    logits.requires_grad_()
    for split in (True, False):
        loss = cross_entropy_loss(logits, unknown, split=split)
        assert loss == 0
        assert not torch.autograd.grad(loss, logits)[0].any()


def test_saliency(logits):
    target = torch.randint(0, 2, (2, 6, 5), generator=torch.Generator().manual_seed(2))
    valid = torch.randint(0, 2, (2, 6, 5), generator=torch.Generator().manual_seed(3))
    p = logits.double().softmax(1)[:, 0]
    per_pixel = -(target * p.log() + (1 - target) * (1 - p).log())
    assert float(saliency_loss(logits, target)) == pytest.approx(float(per_pixel.mean()), rel=1e-6)
    expected = float(per_pixel[valid > 0].mean())
    assert float(saliency_loss(logits, target, valid)) == pytest.approx(expected, rel=1e-6)
    assert saliency_loss(logits, target, torch.zeros_like(valid)) == 0


def test_gradients(logits, labels):
    exact = logits[:, :, :3, :3].double().requires_grad_()
    target = torch.randint(0, 2, (2, 3, 3), generator=torch.Generator().manual_seed(4))
    assert gradcheck(lambda z: saliency_loss(z, target), exact)
    assert gradcheck(lambda z: cross_entropy_loss(z, labels[:, :3, :3]), exact)
    certain = (logits * 100).requires_grad_()
    loss = saliency_loss(certain, torch.ones(2, 6, 5))
    assert torch.isfinite(torch.autograd.grad(loss, certain)[0]).all()


def test_shapes_that_do_not_fit(logits, labels):
    with pytest.raises(ValueError, match=r"valid: expected shape \(2, 6, 5\), got \(2, 1, 6, 5\)"):
        saliency_loss(logits, torch.ones(2, 6, 5), torch.ones(2, 1, 6, 5))
    with pytest.raises(ValueError, match=r"target: expected shape \(2, 6, 5\), got \(2, 6, 6\)"):
        saliency_loss(logits, torch.ones(2, 6, 6))
    with pytest.raises(ValueError, match=r"labels: expected shape \(2, 6, 5\), got \(1, 6, 5\)"):
        cross_entropy_loss(logits, labels[:1])
    with pytest.raises(ValueError, match=r"labels: expected shape \(2, 4\), got \(4,\)"):
        classification_loss(logits[:, :, 0, 0], torch.ones(4))


def test_empty_batch():
    empty = torch.zeros(0, 3, 4, 4)
    assert cross_entropy_loss(empty, torch.zeros(0, 4, 4)) == 0
    assert saliency_loss(empty, torch.zeros(0, 4, 4)) == 0


def test_bfloat16_logits(logits, labels):
    low = logits.bfloat16()
    assert cross_entropy_loss(low, labels).dtype == torch.float32
    assert saliency_loss(low, torch.ones(2, 6, 5)).dtype == torch.float32
    assert classification_loss(low[:, :, 0, 0], torch.ones(2, 4)).dtype == torch.float32


def test_images_of_another_range_are_refused():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 16, 16), generator=generator)
    probabilities = torch.rand(2, 4, 16, 16, generator=generator).softmax(1)
    rest = torch.ones(2, 16, 16), torch.zeros(2, 16, 16)
    loss = DenseEnergyLoss()
    with pytest.raises(ValueError, match=r"images_rgb: expected values in 0..255, found 0..1; multiply them by 255"):
        loss(images / 255, probabilities, *rest)
    assert loss(images.float(), probabilities, *rest).isfinite()
    for dark in (torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16), images.clamp_max(1)):
        assert DenseEnergyLoss()(dark, probabilities, *rest).isfinite()
