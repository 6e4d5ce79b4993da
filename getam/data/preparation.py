"""Writing a prepared data set (getam/data/dataset.py), after all of its files have been checked."""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from getam.constants import BACKGROUND, BASE, UNKNOWN
from getam.data.dataset import DESCRIPTION, SEPARATOR, DataSet, Split, open_dataset, splits_of_part
from getam.data.images import image_size, mask_size, read_mask
from getam.utils.checks import shortened
from getam.utils.files import check_present, csv_text, read_json, write_json, write_text
from getam.utils.parallel import map_unordered
from getam.utils.progress import progress

_log = logging.getLogger(__name__)
_ID = re.compile(r"[\w.-]+")  # safe in paths and lists


@dataclass(frozen=True)
class Part:
    """Splits that are prepared together.

    Attributes:
        about: rules, sources and checksums, kept in the part's description.
    """

    splits: Sequence[Split]
    about: Mapping[str, object]


def begin_dataset(folder: Path, name: str, parts: Iterable[str] = (BASE,)) -> None:
    """Removes the old descriptions of the parts before their files are overwritten, so that a half-written part is not
    taken for a complete one.

    Raises:
        FileNotFoundError: the first part is neither there nor among them.
        ValueError: the folder holds another data set.
    """
    path = folder / DESCRIPTION
    if path.is_file():
        found = read_json(path).get("name")
        if found != name:
            raise ValueError(f"{folder} holds the data set {found!r}: {name!r} needs a folder of its own")
    elif BASE not in parts:
        raise FileNotFoundError(f"no {path}: prepare the part {BASE!r} before the part {min(parts)!r}")
    for part in parts:
        (folder / f"{part}.json").unlink(missing_ok=True)


def write_dataset(
    folder: Path,
    name: str,
    classes: Sequence[str],
    parts: Mapping[str, Part],
    read_masks: bool = False,
    workers: int = 1,
) -> DataSet:
    """Checks that every file exists and has the right size, and writes the lists, then the descriptions of the parts.

    Logs a warning where an image belongs to a training and an evaluation split, and where images without any label
    have a mask with classes.

    Args:
        parts: by their names; that of `dataset.json` is `BASE`.
        read_masks: decode every mask, as those of other programs may have labels or palettes that do not fit; else
            only their headers are read.
        workers: processes that read masks.

    Raises:
        FileNotFoundError: an image or a mask is missing.
        ValueError: a split is empty or names an image twice; an id or a class has a forbidden character; a file cannot
            be read; a mask has another size than its image, is not an 8-bit image of one channel, or, with
            `read_masks`, has a label that is not a class or a palette that was reordered. Nothing is described then.
    """
    for category in classes:
        if SEPARATOR in category:
            raise ValueError(f"class {category!r}: {SEPARATOR} separates classes in the lists")
    splits = [split for part in parts.values() for split in part.splits]
    for split in splits:
        _check_files(split, len(classes) if read_masks else None, workers)
    others = [] if BASE in parts else splits_of_part(folder / DESCRIPTION).values()
    _warn_of_shared_images([*others, *splits])
    described = {}
    for split in splits:
        text = _as_csv(split, classes)
        write_text(folder / f"{split.name}.csv", text)
        described[split.name] = {
            "images": _reference(split.images, folder),
            "image_suffix": split.image_suffix,
            "masks": None if split.masks is None else _reference(split.masks, folder),
            "labelled": split.labels is not None,
            "count": len(split),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
    for part in sorted(parts, key=lambda part: part != BASE):  # a part is made after the first one
        description = {
            "name": name,
            **({} if part == BASE else {"part": part}),
            "classes": list(classes),
            **parts[part].about,
            "splits": {split.name: described[split.name] for split in parts[part].splits},
        }
        write_json(folder / f"{part}.json", description)
    return open_dataset(folder)


def _as_csv(split: Split, classes: Sequence[str]) -> str:
    rows = [("id", "classes")]
    for i, name in enumerate(split.ids):
        present = [] if split.labels is None else np.flatnonzero(split.labels[i])
        rows.append((name, SEPARATOR.join(classes[c] for c in present)))
    return csv_text(rows)


def _reference(path: Path, folder: Path) -> str:
    if path.is_absolute() and not path.is_relative_to(folder.absolute()):
        return str(path)
    reference = os.path.relpath(path, folder)
    if not (folder / reference).exists():  # with a symbolic link on the way, `..` leads elsewhere
        reference = os.path.relpath(path.resolve(), folder.resolve())
    return Path(reference).as_posix()


def _check_files(split: Split, num_classes: int | None, workers: int) -> None:
    """num_classes: None: read the headers of the masks only."""
    if not split.ids:
        raise ValueError(f"split {split.name!r} lists no image")
    for name in split.ids:
        if not _ID.fullmatch(name):
            raise ValueError(f"split {split.name!r}: {name!r} is not an id: expected letters, digits and any of . _ -")
    name, times = Counter(split.ids).most_common(1)[0]
    if times > 1:
        raise ValueError(f"split {split.name!r} lists {name} {times} times")
    check_present(split.images, [split.image(name) for name in split.ids], f"images of split {split.name!r}")
    if split.masks is None:
        return
    check_present(split.masks, [split.mask(name) for name in split.ids], f"masks of split {split.name!r}")
    jobs = [(name, split.image(name), split.mask(name)) for name in split.ids]
    done = map_unordered(partial(_check_mask, num_classes), jobs, workers if num_classes else 1)
    shown = dict(progress(done, total=len(jobs), desc=f"masks of {split.name}", unit="image"))
    if split.labels is not None:
        empty = [name for name, labels in zip(split.ids, split.labels, strict=True) if shown[name] and not labels.any()]
        if empty:
            _log.warning(
                "split %s: %d images have no label, but classes in their mask: %s",
                *(split.name, len(empty), shortened(empty)),
            )


def _check_mask(num_classes: int | None, job: tuple[str, Path, Path]) -> tuple[str, bool]:
    """The id, and whether its mask is known to have a class."""
    name, image, path = job
    expected = image_size(image)
    if num_classes is None:
        if mask_size(path) != expected:
            read_mask(path, expected)  # raises the error with both sizes
        return name, False
    mask = read_mask(path, expected)
    labels = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    check_labels(path, labels, num_classes)
    return name, bool(set(labels.tolist()) - {BACKGROUND, UNKNOWN})


def check_labels(path: Path, labels: np.ndarray, num_classes: int) -> None:
    """Raises a ValueError that names the mask, unless its labels are 0 to C or 255."""
    strangers = labels[(labels > num_classes) & (labels != UNKNOWN)]
    if strangers.size:
        raise ValueError(
            f"{path}: label {strangers[0]}, expected 0..{num_classes} or {UNKNOWN}; a mask holds labels, not shades of "
            "grey or colours"
        )


def _warn_of_shared_images(splits: Sequence[Split]) -> None:
    evaluated = [split for split in splits if split.name.startswith(("val", "test"))]
    for split in splits:
        for other in evaluated:
            shared = sorted(set(split.ids) & set(other.ids)) if split not in evaluated else []
            if shared:
                counted = len(shared), split.name, other.name, shortened(shared)
                _log.warning("%d images are in %s and in %s: %s", *counted)


def pixel_digest(values: np.ndarray) -> str:
    """sha256 of the size and the values of uint8 pixels, independent of the file's compression."""
    return hashlib.sha256(np.array(values.shape, "<u4").tobytes() + values.tobytes()).hexdigest()


def digest_of(digests: dict[str, str]) -> str:
    """sha256 of the sorted lines `<id> <digest>`."""
    return hashlib.sha256("".join(f"{name} {digests[name]}\n" for name in sorted(digests)).encode()).hexdigest()
