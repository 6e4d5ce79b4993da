"""mIoU of raw activation maps, with the classes of an image known and the best of many thresholds.

The truth chooses the threshold, so these scores compare methods (Table 1); they do not rate a trained network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from getam.config.experiment import Experiment
from getam.constants import UNKNOWN
from getam.data.augmentation import View
from getam.data.dataset import Split
from getam.data.images import image_size, read_mask
from getam.evaluation.labelling import activations
from getam.evaluation.metrics import ConfusionMatrix
from getam.evaluation.scores import BACKGROUND_NAME, Score, write_score
from getam.models.network import SegmentationNetwork
from getam.utils.files import csv_text, write_text

# Geometric: maps that are products of small numbers have their best threshold low.
THRESHOLDS = np.geomspace(0.005, 0.9, 40)


class ThresholdedConfusion:
    """Confusion matrices of maps cut at each of several thresholds, in one pass over the pixels.

    Args:
        num_classes: C, without the background.
        thresholds: ascending; a pixel above the threshold belongs to the class whose map is largest there, all others
            are background.
    """

    def __init__(self, num_classes: int, thresholds: np.ndarray = THRESHOLDS):
        self.thresholds = np.asarray(thresholds)
        # By true label, class of the largest map, and number of thresholds below its value.
        self._pixels = np.zeros((num_classes + 1, num_classes, len(self.thresholds) + 1), np.int64)

    def update(self, truth: np.ndarray, maps: np.ndarray) -> None:
        """Adds one image: truth uint8 (H, W) with 255 for unknown, maps (C, H, W), each at most 1."""
        counted = truth != UNKNOWN
        largest = maps.argmax(0)[counted]
        passed = np.searchsorted(self.thresholds, maps.max(0)[counted])
        cells = np.ravel_multi_index((truth[counted], largest, passed), self._pixels.shape)
        self._pixels += np.bincount(cells, minlength=self._pixels.size).reshape(self._pixels.shape)

    def matrices(self) -> list[ConfusionMatrix]:
        """One for each threshold, background first."""
        below = self._pixels.cumsum(2)
        above = below[:, :, -1:] - below
        background = below.sum(1, keepdims=True)
        matrices = [ConfusionMatrix(len(self._pixels)) for _ in self.thresholds]
        for matrix, counts in zip(matrices, np.moveaxis(np.concatenate([background, above], 1), 2, 0), strict=False):
            matrix.counts += counts
        return matrices


@dataclass(frozen=True)
class MapScores:
    """thresholds: ascending. scores: one for each threshold."""

    thresholds: np.ndarray
    scores: list[Score]

    def best(self) -> int:
        """Index of the threshold with the highest mIoU."""
        return int(np.argmax([score.miou() for score in self.scores]))


def score_maps(
    network: SegmentationNetwork,
    split: Split,
    classes: Sequence[str],
    experiment: Experiment,
    batch: int = 4,
    workers: int = 0,
) -> MapScores:
    """Compares the maps of an experiment's method, before any refinement, with the truth.

    The long side of an image is the training crop's; maps are resized to the image (bilinear) and divided by their
    maximum.

    Args:
        classes: names of the C foreground classes.
        batch: images that run through the network at once.
        workers: processes that read images.

    Raises:
        ValueError: the split has no image labels or no truth.
    """
    if split.masks is None:
        raise ValueError(f"split {split.name!r} has no masks to compare with")
    confusion = ThresholdedConfusion(len(classes))
    for names, view, _, maps in activations(network, split, split.ids, experiment, batch, workers):
        for name, of_image, its_maps in zip(names, view.unbatched(), maps, strict=True):
            truth = read_mask(split.mask(name), image_size(split.image(name)))
            confusion.update(truth, _at_size(its_maps, of_image, truth.shape).cpu().numpy())
    names = (BACKGROUND_NAME, *classes)
    return MapScores(confusion.thresholds, [Score(names, matrix) for matrix in confusion.matrices()])


def _at_size(maps: Tensor, view: View, size: tuple[int, int]) -> Tensor:
    """(C, h, w) of a padded view -> (C, H, W) of the image, each map at most 1."""
    maps = F.interpolate(maps[None], view.valid.shape, mode="bilinear", align_corners=True)
    inside = F.interpolate(view.unpad(maps), size, mode="bilinear", align_corners=False)[0]
    # Without the 1e-5 that `normalise_maps` adds: it would put methods with small maps at a disadvantage.
    return inside / inside.amax((1, 2), keepdim=True).clamp_min(torch.finfo(inside.dtype).tiny)


def write_map_scores(folder: Path, scores: MapScores) -> Path:
    """Writes the score at the best threshold to map_iou.csv and map_iou_confusion.csv, and mIoU at each threshold to
    map_iou_thresholds.csv; returns the path of the first.
    """
    mious = [score.miou() for score in scores.scores]
    rows = [("threshold", "mIoU"), *zip(scores.thresholds.tolist(), mious, strict=True)]
    write_text(folder / "map_iou_thresholds.csv", csv_text(rows))
    return write_score(folder, scores.scores[scores.best()], "map_iou")
