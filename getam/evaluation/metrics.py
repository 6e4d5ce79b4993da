"""Scores from one confusion matrix over a whole data set (docs/explanation/method.md section 6)."""

from typing import TYPE_CHECKING

import numpy as np

from getam.constants import UNKNOWN

if TYPE_CHECKING:
    from torch import Tensor


class ConfusionMatrix:
    """Counts of (true, predicted) label pairs over any number of images.

    Args:
        num_classes: C + 1, background included.
        unknown: predictions may be 255, as in pseudo labels; such a pixel is missed by its true class.

    Attributes:
        counts: int64 (num_classes, num_classes), pixels by true and predicted label; with `unknown` one more column
            for the pixels that are predicted as 255.

    >>> matrix = ConfusionMatrix(2)
    >>> matrix.update(np.array([0, 0, 1, 255]), np.array([0, 1, 1, 0]))
    >>> matrix.iou(), matrix.miou()
    (array([0.5, 0.5]), 0.5)
    """

    def __init__(self, num_classes: int, unknown: bool = False):
        if num_classes < 1:
            raise ValueError(f"num_classes: expected at least 1, got {num_classes}")
        self.num_classes, self._unknown = num_classes, unknown
        self.counts = np.zeros((num_classes, num_classes + unknown), np.int64)

    def update(self, target: "np.ndarray | Tensor", prediction: "np.ndarray | Tensor") -> None:
        """Add label maps of any shape, the same for both; pixels whose target is 255 are left out.

        Raises:
            ValueError: shapes differ, or a label is neither a class nor 255 where that is allowed.
        """
        target, prediction = (
            x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x) for x in (target, prediction)
        )
        if target.shape != prediction.shape:
            raise ValueError(f"target {target.shape} and prediction {prediction.shape} differ in shape")
        for name, values in (("target", target), ("prediction", prediction)):
            if values.dtype.kind == "f" and not (values == values.round()).all():
                raise ValueError(f"{name}: expected whole numbers, got fractions")
        counted = target != UNKNOWN
        true, predicted = target[counted].astype(np.int64), prediction[counted].astype(np.int64)
        known = predicted != UNKNOWN if self._unknown else slice(None)
        for name, values in (("target", true), ("prediction", predicted[known])):
            if values.size and not 0 <= values.min() <= values.max() < self.num_classes:
                wrong = values[(values < 0) | (values >= self.num_classes)][0]
                raise ValueError(f"{name}: label {wrong} is not among the {self.num_classes} classes")
        if self._unknown:
            predicted[~known] = self.num_classes
        pairs = np.bincount(true * self.counts.shape[1] + predicted, minlength=self.counts.size)
        self.counts += pairs.reshape(self.counts.shape)

    def iou(self) -> np.ndarray:
        """Intersection over union of each class, float64 (num_classes,); NaN where the union is empty."""
        intersection = np.diag(self.counts).astype(float)
        union = self.counts.sum(0)[: self.num_classes] + self.counts.sum(1) - intersection
        return np.divide(intersection, union, out=np.full(self.num_classes, np.nan), where=union > 0)

    def miou(self) -> float:
        """Mean of the classes whose union is not empty; NaN where nothing was counted."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")

    def frequency_weighted_iou(self) -> float:
        """Mean of the IoU weighted by the truth's frequencies; NaN where nothing was counted."""
        total = self.counts.sum()
        return float(np.nansum(self.iou() * self.counts.sum(1)) / total) if total else float("nan")

    def accuracy(self) -> float:
        """Fraction of the pixels that are right; NaN where nothing was counted."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")
