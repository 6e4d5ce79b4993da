"""The interface of pydensecrf's module `utils`: unary energies, and features of pairwise ones."""

import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Optional, Union

import numpy as np


def unary_from_labels(labels: np.ndarray, n_labels: int, gt_prob: float, zero_unsure: bool = True) -> np.ndarray:
    """Energies of a hard labelling that is right with probability `gt_prob`.

    Args:
        labels: whole numbers in any shape. With `zero_unsure`, 0 means unknown and label k is 1 .. n_labels; else
            labels are 0 .. n_labels - 1.
        n_labels: the number of labels, 0 not counted with `zero_unsure`.
        gt_prob: between 0 and 1, both excluded; the rest is shared by the other labels.
        zero_unsure: give variables labelled 0 the same energy for every label.

    Returns:
        (n_labels, variables), float32.
    """
    if not 0 < gt_prob < 1:
        raise AssertionError(f"gt_prob: expected a probability between 0 and 1, both excluded, got {gt_prob!r}")
    if not isinstance(n_labels, Integral) or n_labels < 2:
        raise ValueError(f"n_labels: expected a whole number from 2, got {n_labels!r}")
    labels = np.asarray(labels).reshape(-1)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels: expected whole numbers, got {labels.dtype}; pass labels.astype(int)")
    index = labels.astype(np.int64) - bool(zero_unsure)
    lowest, highest = (0, n_labels) if zero_unsure else (0, n_labels - 1)
    if labels.size and not (lowest <= labels.min() and labels.max() <= highest):
        raise ValueError(
            f"labels: expected {lowest} to {highest} with n_labels={n_labels} and zero_unsure={zero_unsure}, got "
            f"{labels.min()} to {labels.max()}"
        )
    known = np.flatnonzero(index >= 0)
    energies = np.full((n_labels, labels.size), -np.log((1.0 - gt_prob) / (n_labels - 1)), np.float32)
    energies[index[known], known] = -np.log(gt_prob)
    energies[:, index < 0] = -np.log(1.0 / n_labels)
    return energies


def unary_from_softmax(sm: np.ndarray, scale: Optional[float] = None, clip: Optional[float] = 1e-5) -> np.ndarray:
    """Energies of probabilities.

    Args:
        sm: (labels, ...), floats.
        scale: above 0 and at most 1: the weight of `sm` in a mixture with the uniform distribution.
        clip: smaller probabilities count as this one. None: the energy of probability 0 is infinite.

    Returns:
        (labels, variables), float32.
    """
    sm = np.asarray(sm)
    if sm.ndim == 0 or not np.issubdtype(sm.dtype, np.floating):
        raise ValueError(f"sm: expected floats (labels, ...), got {sm.dtype} {sm.shape}")
    if scale is not None:
        if not 0 < scale <= 1:
            raise AssertionError(f"scale: expected a number above 0 and at most 1, got {scale!r}")
        sm = scale * sm + (1 - scale) * (np.ones(sm.shape) / len(sm))
    if clip is not None:
        sm = np.clip(sm, clip, 1.0)
    with np.errstate(divide="ignore"):
        energies = -np.log(sm)
    return np.ascontiguousarray(energies.reshape(len(sm), -1), np.float32)


def compute_unary(labels: np.ndarray, M: int, GT_PROB: float = 0.5) -> np.ndarray:  # noqa: N803
    """An old name of `unary_from_labels`."""
    warnings.warn("compute_unary is deprecated: use unary_from_labels", DeprecationWarning, stacklevel=2)
    return unary_from_labels(labels, M, GT_PROB)


def softmax_to_unary(sm: np.ndarray, GT_PROB: float = 1) -> np.ndarray:  # noqa: N803
    """An old name of `unary_from_softmax`, without `clip`."""
    warnings.warn("softmax_to_unary is deprecated: use unary_from_softmax", DeprecationWarning, stacklevel=2)
    return unary_from_softmax(sm, None if GT_PROB == 1 else GT_PROB, clip=None)


def create_pairwise_gaussian(sdims: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Features of a kernel on positions, for `addPairwiseEnergy`.

    Args:
        sdims: the standard deviation along each axis.
        shape: of the image or volume, (H, W) or any number of axes.

    Returns:
        (len(shape), variables), float32.
    """
    if len(sdims) != len(shape):
        raise ValueError(f"sdims: expected {len(shape)} numbers, one per axis of {tuple(shape)}, got {len(sdims)}")
    return np.ascontiguousarray(_positions(sdims, shape).reshape(len(shape), -1))


def create_pairwise_bilateral(
    sdims: Sequence[float], schan: Union[float, Sequence[float]], img: np.ndarray, chdim: int = -1
) -> np.ndarray:
    """Features of a kernel on positions and values, for `addPairwiseEnergy`.

    Args:
        sdims: the standard deviation along each axis but that of the channels.
        schan: the standard deviation of every channel, one number or one per channel.
        img: an image or volume with any number of axes.
        chdim: the axis of the channels; -1: there is none, and every variable has one value.

    Returns:
        (axes + channels, variables), float32.
    """
    img = np.asarray(img)
    channels = (img[np.newaxis] if chdim == -1 else np.moveaxis(img, chdim, 0)).astype(np.float32)
    shape = channels.shape[1:]
    if len(sdims) != len(shape):
        raise ValueError(
            f"sdims: expected {len(shape)} numbers, one per axis of {tuple(shape)}, got {len(sdims)}; "
            "chdim names the axis of the channels"
        )
    schan = (schan,) * len(channels) if isinstance(schan, Real) else tuple(schan)
    if len(schan) != len(channels):
        raise ValueError(f"schan: expected a number or {len(channels)} numbers, one per channel, got {len(schan)}")
    for channel, deviation in zip(channels, schan):
        channel /= deviation
    features = np.concatenate([_positions(sdims, shape), channels])
    return np.ascontiguousarray(features.reshape(len(features), -1))


def _positions(deviations: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    positions = np.indices(tuple(shape), np.float32)
    for plane, deviation in zip(positions, deviations):
        plane /= deviation
    return positions
