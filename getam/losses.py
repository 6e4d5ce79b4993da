"""The losses of the joint phase but for the dense energy (docs/method.md section 4)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from getam.arguments import check_shape
from getam.backbones import at_least_float32
from getam.pseudo_labels import BACKGROUND, UNKNOWN


def classification_loss(class_logits: Tensor, labels: Tensor) -> Tensor:
    """Multi-label soft margin loss of class logits (B, C) against image labels (B, C), 0 or 1: a scalar."""
    check_shape("labels", labels, class_logits.shape)
    return F.multilabel_soft_margin_loss(at_least_float32(class_logits), labels)


def cross_entropy_loss(seg_logits: Tensor, labels: Tensor, split: bool = True) -> Tensor:
    """Cross entropy over the labelled pixels: a scalar.

    Args:
        seg_logits: (B, C + 1, H, W).
        labels: (B, H, W), 0 background, 255 ignored.
        split: add the mean over the background pixels and the mean over the others (VOC), instead of one mean over all
            (COCO). A mean over no pixel is 0, where the released code gives NaN.
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
        target: (B, H, W), 1 for background; see `getam.pseudo_labels.saliency_target`.
        valid: (B, H, W), above 0 where a pixel counts; None: everywhere. For recipes that leave padding out.

    The logarithm is exact; the released code's stops at -100, which it meets where the background's logit leads by 17.
    """
    logits = at_least_float32(seg_logits)
    check_shape("target", target, logits[:, 0].shape)
    # softmax(z)[0] = sigmoid(z_0 - logsumexp(z_1..)), which keeps its precision where the probability is 0 or 1.
    background = logits[:, 0] - logits[:, 1:].logsumexp(1)
    per_pixel = F.binary_cross_entropy_with_logits(background, target.to(background.dtype), reduction="none")
    if valid is None:
        return _mean(per_pixel, torch.ones_like(per_pixel, dtype=torch.bool))
    check_shape("valid", valid, logits[:, 0].shape)
    return _mean(per_pixel, valid > 0)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp_min(1)
