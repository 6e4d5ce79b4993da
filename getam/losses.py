"""The losses of the joint phase but for the dense energy (docs/method.md section 4; paper section 3.4)."""

import torch.nn.functional as F
from torch import Tensor

from getam.pseudo_labels import BACKGROUND, UNKNOWN


def classification_loss(class_logits: Tensor, labels: Tensor) -> Tensor:
    """Multi-label soft margin loss of class logits (B, C) against image labels (B, C), 0 or 1: a scalar."""
    return F.multilabel_soft_margin_loss(class_logits.float(), labels.float())


def cross_entropy_loss(seg_logits: Tensor, labels: Tensor, split: bool = True) -> Tensor:
    """Cross entropy over the labelled pixels: a scalar.

    Args:
        seg_logits: (B, C + 1, H, W).
        labels: (B, H, W), 0 background, 255 ignored.
        split: add the mean over the background pixels and the mean over the others (VOC), instead of one mean over all
            (COCO). A mean over no pixel is 0, where the released code gives NaN.
    """
    per_pixel = F.cross_entropy(seg_logits.float(), labels.long(), ignore_index=UNKNOWN, reduction="none")
    background, known = labels == BACKGROUND, labels != UNKNOWN
    if not split:
        return _mean(per_pixel, known)
    return _mean(per_pixel, background) + _mean(per_pixel, known & ~background)


def saliency_loss(seg_logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Binary cross entropy of the background probability against its target: a scalar.

    Args:
        seg_logits: (B, C + 1, H, W).
        target: (B, H, W), 1 for background; see `getam.pseudo_labels.saliency_target`.
        valid: (B, H, W), above 0 where a pixel counts; None: everywhere.
    """
    logits = seg_logits.float()
    # softmax(z)[0] = sigmoid(z_0 - logsumexp(z_1..)), which keeps its precision where the probability is 0 or 1.
    background = logits[:, 0] - logits[:, 1:].logsumexp(1)
    per_pixel = F.binary_cross_entropy_with_logits(background, target.float(), reduction="none")
    return per_pixel.mean() if valid is None else _mean(per_pixel, valid > 0)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp_min(1)
