"""Scores from one confusion matrix over a whole data set (docs/method.md section 6)."""

from typing import TYPE_CHECKING

import numpy as np

from getam.constants import UNKNOWN

if TYPE_CHECKING:
    from torch import Tensor


class ConfusionMatrix:
    """Counts of (true, predicted) label pairs over any number of images.

    Args:
        num_classes: C + 1, background included.
    """

    def __init__(self, num_classes: int):
        if num_classes < 1:
            raise ValueError(f"num_classes: expected at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, target: "np.ndarray | Tensor", prediction: "np.ndarray | Tensor") -> None:
        """Add label maps of one shape, whatever it is; pixels whose target is 255 are left out.

        Raises:
            ValueError: shapes differ, or a label is neither a class nor, in the target, 255.
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
        for name, values in (("target", true), ("prediction", predicted)):
            if values.size and not 0 <= values.min() <= values.max() < self.num_classes:
                wrong = values[(values < 0) | (values >= self.num_classes)][0]
                raise ValueError(f"{name}: label {wrong} is not among the {self.num_classes} classes")
        pairs = np.bincount(true * self.num_classes + predicted, minlength=self.num_classes**2)
        self.counts += pairs.reshape(self.counts.shape)

    def iou(self) -> np.ndarray:
        """Intersection over union of each class, float64 (num_classes,); NaN where the union is empty."""
        intersection = np.diag(self.counts).astype(float)
        union = self.counts.sum(0) + self.counts.sum(1) - intersection
        return np.divide(intersection, union, out=np.full(self.num_classes, np.nan), where=union > 0)

    def miou(self) -> float:
        """Mean of the classes whose union is not empty; NaN where nothing was counted."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")

    def frequency_weighted_iou(self) -> float:
        """Mean of the IoU weighted by the truth's frequencies; NaN where nothing was counted."""
        total = self.counts.sum()
        return float(np.nansum(self.iou() * self.counts.sum(1) / total)) if total else float("nan")

    def accuracy(self) -> float:
        """Part of the pixels that are right; NaN where nothing was counted."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")
