"""A prepared data set: one folder with the splits, the image-level labels, and where images and masks are stored.

    dataset.json    name, classes in the order of the labels 1..C, rules, sources, and for each split the folders of its
                    images and masks, its number of images and the sha256 of its list
    <split>.csv     id, classes (separated by |): one line per image

The photographs stay where they were unpacked. Folders inside the prepared one, and folders given as relative paths, are
stored relative to it, so that everything can be moved together.
"""

import csv
import hashlib
import io
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from getam.constants import BACKGROUND, UNKNOWN
from getam.data.images import image_size, mask_size, read_mask
from getam.utils.checks import shortened, suggestion
from getam.utils.files import check_present, csv_text, read_json, write_json, write_text
from getam.utils.parallel import map_unordered
from getam.utils.progress import progress

DESCRIPTION = "dataset.json"
_log = logging.getLogger(__name__)
_ID = re.compile(r"[\w.-]+")  # safe in paths and lists
_SEPARATOR = "|"  # some of COCO's class names have spaces, none has this


@dataclass(frozen=True)
class Split:
    """Some images of a data set.

    Attributes:
        ids: the M file names without their suffix, in the order of the list.
        labels: float32 (M, C), 1 for the classes that are in the image; None if they are not published.
        images: folder of <id><image_suffix>.
        masks: folder of <id>.png with labels 0..C and 255, or None.
    """

    name: str
    ids: tuple[str, ...]
    labels: np.ndarray | None
    images: Path
    image_suffix: str
    masks: Path | None

    def image(self, name: str) -> Path:
        """The photograph of an id."""
        return self.images / f"{name}{self.image_suffix}"

    def mask(self, name: str) -> Path:
        """The mask of an id.

        Raises:
            ValueError: the split has no masks.
        """
        if self.masks is None:
            raise ValueError(f"split {self.name!r} has no masks")
        return self.masks / f"{name}.png"

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class DataSet:
    """A prepared data set: its folder, its name, its class names and its splits."""

    folder: Path
    name: str
    classes: tuple[str, ...]
    splits: dict[str, Split]

    def split(self, name: str) -> Split:
        """One split.

        Raises:
            ValueError: there is none of this name.
        """
        if name not in self.splits:
            raise ValueError(f"{self.folder}: no split {name!r}; {suggestion(name, self.splits)}")
        return self.splits[name]


def begin_dataset(folder: Path, name: str) -> None:
    """Removes the old description before its files are overwritten, so that a half-written data set is not taken for a
    complete one.

    Raises:
        ValueError: the folder holds another data set.
    """
    path = folder / DESCRIPTION
    if path.is_file():
        found = read_json(path).get("name")
        if found != name:
            raise ValueError(f"{folder} holds the data set {found!r}: {name!r} needs a folder of its own")
        path.unlink()


def write_dataset(
    folder: Path,
    name: str,
    classes: Sequence[str],
    splits: Iterable[Split],
    about: dict[str, object],
    read_masks: bool = False,
    workers: int = 1,
) -> DataSet:
    """Checks that every file exists and has the right size, and writes the lists, then the description.

    Logs a warning where an image belongs to a training and an evaluation split, and where images without any label
    have a mask with classes.

    Args:
        read_masks: decode every mask, as those of other programs may have labels or palettes that do not fit; else
            only their headers are read.
        workers: processes that read masks.

    Raises:
        FileNotFoundError: an image or a mask is missing.
        ValueError: a split is empty or names an image twice; an id or a class has a forbidden character; a file cannot
            be read; a mask has another size than its image, is not an 8-bit image of one channel, or, with
            `read_masks`, has a label that is not a class or a palette that was reordered.
    """
    for category in classes:
        if _SEPARATOR in category:
            raise ValueError(f"class {category!r}: {_SEPARATOR} separates classes in the lists")
    splits = list(splits)
    for split in splits:
        _check_files(split, len(classes) if read_masks else None, workers)
    _warn_of_shared_images(splits)
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
    write_json(folder / DESCRIPTION, {"name": name, "classes": list(classes), **about, "splits": described})
    return open_dataset(folder)


def open_dataset(folder: Path | str) -> DataSet:
    """Reads what `getam prepare` has written.

    Raises:
        FileNotFoundError: the folder holds no prepared data set.
        ValueError: one of its files has been changed, or the description is not valid.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} is not a prepared data set: no {DESCRIPTION} in it; `getam prepare` writes one"
        )
    description = read_json(path)
    try:
        classes = tuple(description["classes"])
        splits = {name: _read_split(folder, name, classes, entry) for name, entry in description["splits"].items()}
        return DataSet(folder, description["name"], classes, splits)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not describe a data set: {error!r}; run `getam prepare` again") from error


def _read_split(folder: Path, name: str, classes: tuple[str, ...], entry: dict) -> Split:
    path = folder / f"{name}.csv"
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ValueError(f"{path} is not the list that {DESCRIPTION} describes; run `getam prepare` again")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    labels = None
    if entry["labelled"]:
        index = {name: i for i, name in enumerate(classes)}
        labels = np.zeros((len(rows), len(classes)), np.float32)
        for i, row in enumerate(rows):
            labels[i, [index[present] for present in row["classes"].split(_SEPARATOR) if present]] = 1
    masks = None if entry["masks"] is None else folder / entry["masks"]
    ids = tuple(row["id"] for row in rows)
    return Split(name, ids, labels, folder / entry["images"], entry["image_suffix"], masks)


def _as_csv(split: Split, classes: Sequence[str]) -> str:
    rows = [("id", "classes")]
    for i, name in enumerate(split.ids):
        present = [] if split.labels is None else np.flatnonzero(split.labels[i])
        rows.append((name, _SEPARATOR.join(classes[c] for c in present)))
    return csv_text(rows)


def _reference(path: Path, folder: Path) -> str:
    if path.is_absolute() and not path.is_relative_to(folder.absolute()):
        return str(path)
    reference = os.path.relpath(path, folder)
    if not (folder / reference).exists():  # with a symbolic link on the way, `..` leads elsewhere
        reference = os.path.relpath(path.resolve(), folder.resolve())
    return Path(reference).as_posix()


def check_images(split: Split) -> None:
    """Raises a FileNotFoundError that names the first missing image, unless all exist."""
    check_present(split.images, [split.image(name) for name in split.ids], f"images of split {split.name!r}")


def check_saliency(split: Split, folder: Path) -> None:
    """Raises a FileNotFoundError that names the first missing map, unless every image has one."""
    paths = [folder / f"{name}.png" for name in split.ids]
    check_present(folder, paths, f"saliency maps of split {split.name!r}", "`getam saliency` makes them")


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
