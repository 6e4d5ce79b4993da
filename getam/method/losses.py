"""The losses of the joint phase (docs/explanation/method.md section 4)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from getam.lattice.bilateral import bilateral_filter
from getam.method.pseudo_labels import BACKGROUND, UNKNOWN
from getam.models.runtime import at_least_float32
from getam.utils.checks import check_positive, check_shape


def classification_loss(class_logits: Tensor, labels: Tensor) -> Tensor:
    """Multi-label soft margin loss of class logits (B, C) against image labels (B, C), 0 or 1: a scalar.

    >>> classification_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1, 0]]))
    tensor(0.6931)
    """
    check_shape("labels", labels, class_logits.shape)
    return F.multilabel_soft_margin_loss(at_least_float32(class_logits), labels)


def cross_entropy_loss(seg_logits: Tensor, labels: Tensor, split: bool = True) -> Tensor:
    """Cross entropy over the labelled pixels: a scalar.

    Args:
        seg_logits: (B, C + 1, H, W).
        labels: (B, H, W), 0 background, 255 ignored.
        split: True: the mean over background pixels plus the mean over all others (VOC); False: one mean (COCO). A
            mean over no pixel is 0; the released code gives NaN.

    Raises:
        ValueError: shapes that do not fit.

    >>> seg_logits, labels = torch.zeros(1, 2, 2, 2), torch.tensor([[[0, 0], [1, 255]]])
    >>> cross_entropy_loss(seg_logits, labels, split=False)
    tensor(0.6931)
    >>> cross_entropy_loss(seg_logits, labels)
    tensor(1.3863)
    """
    check_shape("labels", labels, seg_logits[:, 0].shape)
    per_pixel = F.cross_entropy(at_least_float32(seg_logits), labels.long(), ignore_index=UNKNOWN, reduction="none")
    background, known = labels == BACKGROUND, labels != UNKNOWN
    if not split:
        return _mean(per_pixel, known)
    return _mean(per_pixel, background) + _mean(per_pixel, known & ~background)


def saliency_loss(seg_logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Binary cross entropy of the background probability against its target: a scalar.

    Args:
        seg_logits: (B, C + 1, H, W).
        target: (B, H, W), 1 for background; see `getam.method.pseudo_labels.saliency_target`.
        valid: (B, H, W), above 0 where a pixel counts; None: everywhere. For recipes that leave padding out.

    The logarithm is exact; that of the released code is clamped at -100, which it reaches where the background's logit
    is 17 above the others.

    Raises:
        ValueError: shapes that do not fit.

    >>> saliency_loss(torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2))
    tensor(0.6931)
    """
    logits = at_least_float32(seg_logits)
    check_shape("target", target, logits[:, 0].shape)
    # softmax(z)[0] = sigmoid(z_0 - logsumexp(z_1..)), which stays precise where the probability is near 0 or 1.
    background = logits[:, 0] - logits[:, 1:].logsumexp(1)
    per_pixel = F.binary_cross_entropy_with_logits(background, target.to(background.dtype), reduction="none")
    if valid is None:
        return _mean(per_pixel, torch.ones_like(per_pixel, dtype=torch.bool))
    check_shape("valid", valid, logits[:, 0].shape)
    return _mean(per_pixel, valid > 0)


class DenseEnergyLoss(nn.Module):
    """The gated dense energy: neighbours of similar colour should have the same label (Tang et al., ECCV 2018).

    With S the probabilities inside the image, at a reduced size, and W the bilateral filter:

        Gate = 1 where the pseudo label is unknown, else max(valid - max_c probabilities, 0)
        loss = -weight * sum(S * Gate * W S) / B

    The gradient treats the gate and W S as constants and is doubled instead, as if W were symmetric:
    -2 weight Gate (W S) valid / B with respect to the resized probabilities.

    Args:
        weight: factor of the loss; the default belongs to this lattice's normalisation.
        sigma_rgb: standard deviation of the colours, 0..255.
        sigma_xy: standard deviation of the positions, in pixels of the full size.
        scale: factor by which both sides are resized.

    >>> loss = DenseEnergyLoss(weight=1.0, sigma_rgb=15, sigma_xy=10, scale=1.0)
    >>> images_rgb, valid, labels = torch.zeros(1, 3, 8, 8), torch.ones(1, 8, 8), torch.full((1, 8, 8), 255)
    >>> sure = torch.zeros(1, 2, 8, 8).index_fill(1, torch.tensor([0]), 1.0)
    >>> (loss(images_rgb, sure, valid, labels) < loss(images_rgb, torch.full_like(sure, 0.5), valid, labels)).item()
    True
    """

    def __init__(self, weight: float = 1e-7, sigma_rgb: float = 15, sigma_xy: float = 100, scale: float = 0.5):
        super().__init__()
        check_positive(sigma_rgb=sigma_rgb, sigma_xy=sigma_xy, scale=scale)
        self.weight, self.sigma_rgb, self.sigma_xy, self.scale = weight, sigma_rgb, sigma_xy, scale
        self._range_checked = False

    def forward(self, images_rgb: Tensor, probabilities: Tensor, valid: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            images_rgb: (B, 3, H, W), 0..255.
            probabilities: (B, C + 1, H, W), the softmax of the segmentation logits.
            valid: (B, H, W), 1 inside the image and 0 on padding.
            labels: (B, H, W), pseudo labels; 255 is unknown.

        Raises:
            ValueError: shapes that do not fit, or images of 0..1, whose loss would be hundreds of times larger.
        """
        if not self._range_checked:  # the first time only: on a GPU the question waits for its answer
            _check_range(images_rgb)
            self._range_checked = True
        probabilities = at_least_float32(probabilities)
        batch, _, *size = probabilities.shape
        check_shape("images_rgb", images_rgb, (batch, 3, *size))
        check_shape("valid", valid, (batch, *size))
        check_shape("labels", labels, (batch, *size))

        images = self._nearest(images_rgb)
        valid = self._nearest(valid[:, None])
        unknown = self._nearest(labels[:, None]) == UNKNOWN
        probabilities = F.interpolate(probabilities, scale_factor=self.scale, mode="bilinear", align_corners=False)

        inside = probabilities * valid
        with torch.no_grad():
            gate = (valid - probabilities.amax(1, keepdim=True)).clamp_min(0).masked_fill(unknown, 1)
            filtered = bilateral_filter(images, inside, self.sigma_rgb, self.sigma_xy * self.scale)
            slope = -self.weight / batch * gate * filtered
        energy = (inside * slope).sum()
        return 2 * energy - energy.detach()

    def _nearest(self, values: Tensor) -> Tensor:
        # Bytes stay bytes: the lattice knows their range without asking the device.
        values = values if values.dtype == torch.uint8 else values.to(torch.float32)
        return F.interpolate(values, scale_factor=self.scale, mode="nearest")


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp_min(1)


def _check_range(images_rgb: Tensor) -> None:
    if images_rgb.is_floating_point() and images_rgb.numel() and 0 < images_rgb.max() <= 1 and (images_rgb % 1).any():
        raise ValueError("images_rgb: expected values in 0..255, found 0..1; multiply them by 255")
