"""RRM's pseudo labels by dense CRFs, which the paper's Table 2 compares with label completion.

docs/explanation/method.md, section 7.
"""

import torch
from torch import Tensor

from getam.constants import BACKGROUND, UNKNOWN
from getam.lattice.crf import dense_crf_batch
from getam.utils.checks import check_shape

_ALPHAS = (4, 32)  # of the background score: a high background leaves certain objects, a low one certain background
_CRF = {"iterations": 10, "gaussian": (3, 3), "bilateral": (80, 13, 10)}
_LEAST_CONFIDENCE = 0.8
_LEAST_ACTIVATION, _KEPT = 0.1, 0.4
_LEAST_SCORE = 1e-5


def crf_labels(maps: Tensor, images_rgb: Tensor, saliency: Tensor, labels: Tensor) -> Tensor:
    """Label the pixels for which two dense CRFs are confident; all others are 255.

    A pixel belongs to a class where the CRF on maps and a high background score (1 - max_c M_c)^4 says so, and to the
    background where the CRF with the low score (power 32) says so. Labels need a marginal of at least 0.8; those of a
    class must also be among the upper 40% of its pixels with activation above 0.1. Pixels that are not salient are
    background.

    Args:
        maps: normalised, (B, C, H, W).
        images_rgb: 0..255, (B, 3, H, W).
        saliency: (B, H, W), above 0 is salient; all ones: labels without saliency.
        labels: of the images, (B, C), above 0 where the class is present.

    Returns:
        uint8, (B, H, W).

    Raises:
        ValueError: shapes that do not fit.
    """
    batch, classes, height, width = maps.shape
    check_shape("images_rgb", images_rgb, (batch, 3, height, width))
    check_shape("saliency", saliency, (batch, height, width))
    check_shape("labels", labels, (batch, classes))
    present = [row.nonzero().squeeze(1) for row in labels > 0]
    activations = [maps[i, indices] for i, indices in enumerate(present)]
    images = list(images_rgb.permute(0, 2, 3, 1).to(torch.uint8))
    high, low = (dense_crf_batch(images, [_scores(own, alpha) for own in activations], **_CRF) for alpha in _ALPHAS)
    pixels = torch.stack([_sure(*parts) for parts in zip(present, activations, high, low, strict=True)])
    return pixels.where(saliency > 0, BACKGROUND).to(torch.uint8)


def _scores(activation: Tensor, alpha: float) -> Tensor:
    """Background score and maps (K, H, W) as probabilities (K + 1, H, W); scaling a pixel changes no marginal."""
    strongest = activation.amax(0) if len(activation) else activation.new_zeros(activation.shape[1:])
    scores = torch.cat([((1 - strongest) ** alpha)[None], activation]).clamp_min(_LEAST_SCORE)
    return scores / scores.sum(0)


def _sure(present: Tensor, activation: Tensor, high: Tensor, low: Tensor) -> Tensor:
    confidence, found = high.max(0)
    background = (low.argmax(0) == 0) & (low.amax(0) >= _LEAST_CONFIDENCE)
    pixels = torch.full_like(found, UNKNOWN)
    pixels[background] = BACKGROUND
    for k, index in enumerate(present):
        own = activation[k].where(found == k + 1, 0)
        active = own[own > _LEAST_ACTIVATION].sort().values
        if len(active):
            pixels[(own > active[int((1 - _KEPT) * len(active))]) & (confidence >= _LEAST_CONFIDENCE)] = index + 1
    return pixels
