"""What raw activation maps are worth: mIoU where the classes of an image are known and the best threshold is chosen.

As the truth chooses the threshold, this compares methods (Table 1) and is no result.
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
from getam.data.dataset import Split
from getam.data.images import image_size, read_mask
from getam.evaluation.labelling import activations
from getam.evaluation.metrics import ConfusionMatrix
from getam.evaluation.scores import BACKGROUND_NAME, Score, write_score
from getam.models.network import SegmentationNetwork
from getam.utils.files import csv_text, write_text

# Maps that are products of small numbers have their best cut low.
THRESHOLDS = np.geomspace(0.005, 0.9, 40)


class ThresholdedConfusion:
    """Confusion matrices of maps that are cut at each of some thresholds.

    Args:
        num_classes: C, without the background.
        thresholds: ascending; above one of them a pixel belongs to the class whose map is largest there.
    """

    def __init__(self, num_classes: int, thresholds: np.ndarray = THRESHOLDS):
        self.thresholds = np.asarray(thresholds)
        # By true label, class of the largest map, and number of thresholds that the map is above.
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
    """thresholds: ascending. scores: at each of them."""

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
    """Compares the maps of an experiment's method, as they are before any refinement, with the truth.

    The long side of an image is the training crop's; maps are brought to the image's size (bilinear) and divided by
    their maximum.

    Raises:
        ValueError: the split has no image labels or no truth.
    """
    if split.masks is None:
        raise ValueError(f"split {split.name!r} has no masks to compare with")
    confusion = ThresholdedConfusion(len(classes))
    for names, view, _, maps in activations(network, split, split.ids, experiment, batch, workers):
        for name, valid, of_image in zip(names, view.valid, maps, strict=True):
            truth = read_mask(split.mask(name), image_size(split.image(name)))
            confusion.update(truth, _at_size(of_image, valid, truth.shape).cpu().numpy())
    # Maps leave no pixel unknown.
    counts = [np.pad(matrix.counts, ((0, 0), (0, 1))) for matrix in confusion.matrices()]
    return MapScores(confusion.thresholds, [Score((BACKGROUND_NAME, *classes), matrix) for matrix in counts])


def _at_size(maps: Tensor, valid: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, h, w) of a padded view -> (C, H, W) of the image, each map at most 1."""
    maps = F.interpolate(maps[None], valid.shape, mode="bilinear", align_corners=True)
    rows, columns = valid.any(1).nonzero().squeeze(1), valid.any(0).nonzero().squeeze(1)
    inside = maps[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside = F.interpolate(inside, size, mode="bilinear", align_corners=False)[0]
    # Without the 1e-5 of the pipeline's divisor: methods whose maps are small are not to lose by it.
    return inside / inside.amax((1, 2), keepdim=True).clamp_min(torch.finfo(inside.dtype).tiny)


def write_map_scores(folder: Path, scores: MapScores) -> Path:
    """Writes map_iou.csv and its confusion at the best threshold, and map_iou_thresholds.csv; the first one's path."""
    mious = [score.miou() for score in scores.scores]
    rows = [("threshold", "mIoU"), *zip(scores.thresholds.tolist(), mious, strict=True)]
    write_text(folder / "map_iou_thresholds.csv", csv_text(rows))
    return write_score(folder, scores.scores[scores.best()], "map_iou")
