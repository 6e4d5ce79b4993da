"""Reads every file of a prepared data set: statistics, and a list of the files that cannot be used."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from getam.constants import BACKGROUND, UNKNOWN
from getam.data.dataset import DataSet, Split
from getam.data.images import read_image, read_mask
from getam.utils.parallel import map_unordered
from getam.utils.progress import progress


@dataclass
class SplitReport:
    """Statistics and problems of one split.

    Attributes:
        images: number of images.
        per_class: images with each class, by the image-level labels, (C,).
        pixels: pixels of all images.
        unknown: share of the masks' pixels that is 255; None without masks.
        only_labels, only_masks: images whose labels name a class that their mask lacks, and the reverse.
        salient: share of the pixels whose saliency is above 0; None without saliency.
        problems: one sentence for each file that cannot be used.
    """

    images: int
    per_class: np.ndarray
    pixels: int = 0
    unknown: float | None = None
    only_labels: int = 0
    only_masks: int = 0
    salient: float | None = None
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Read:
    """Statistics of one image's files, or the problem."""

    name: str
    pixels: int = 0
    labels: tuple[int, ...] = ()
    unknown: int = 0
    salient: int = 0
    problem: str | None = None


def check_split(dataset: DataSet, name: str, saliency: Path | None = None, workers: int = 1) -> SplitReport:
    """Decodes every image of a split, with its mask and, where a folder is given, its saliency map.

    A file that is missing, unreadable or of the wrong size is a problem in the result, not an error, so that one run
    finds them all.

    Raises:
        ValueError: the data set has no such split.
    """
    split = dataset.split(name)
    labels = np.zeros((len(split), len(dataset.classes))) if split.labels is None else split.labels
    facts = SplitReport(len(split), labels.sum(0).astype(int))
    row_of = {image: i for i, image in enumerate(split.ids)}
    unknown = salient = 0
    for read in _read_all(split, len(dataset.classes), saliency, workers):
        if read.problem:
            facts.problems.append(read.problem)
            continue
        facts.pixels += read.pixels
        unknown += read.unknown
        salient += read.salient
        if split.masks is not None and split.labels is not None:
            named = set(np.flatnonzero(labels[row_of[read.name]]) + 1)
            facts.only_labels += bool(named - set(read.labels))
            facts.only_masks += bool(set(read.labels) - named)
    if split.masks is not None:
        facts.unknown = unknown / max(facts.pixels, 1)
    if saliency is not None:
        facts.salient = salient / max(facts.pixels, 1)
    facts.problems.sort()
    return facts


def _read_all(split: Split, num_classes: int, saliency: Path | None, workers: int) -> Iterator[_Read]:
    jobs = (
        (
            name,
            split.image(name),
            None if split.masks is None else split.mask(name),
            None if saliency is None else saliency / f"{name}.png",
        )
        for name in split.ids
    )
    reading = map_unordered(partial(_read, num_classes), jobs, workers)
    yield from progress(reading, total=len(split), desc=f"check {split.name}", unit="image")


def _read(num_classes: int, job: tuple[str, Path, Path | None, Path | None]) -> _Read:
    name, image, mask, saliency = job
    try:
        size = read_image(image).shape[:2]
        labels, unknown, salient = (), 0, 0
        if mask is not None:
            values, counts = np.unique(read_mask(mask, size), return_counts=True)
            unknown = int(counts[values == UNKNOWN].sum())
            labels = tuple(int(value) for value in values if value not in (BACKGROUND, UNKNOWN))
            if labels and labels[-1] > num_classes:
                raise ValueError(f"{mask}: label {labels[-1]}, expected 0..{num_classes} or {UNKNOWN}")
        if saliency is not None:
            salient = int((read_mask(saliency, size) > 0).sum())
    except (OSError, ValueError) as error:
        return _Read(name, problem=str(error))
    return _Read(name, size[0] * size[1], labels, unknown, salient)
