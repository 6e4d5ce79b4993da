"""A prepared data set: one folder with the splits, the image-level labels, and where images and masks are stored.

    dataset.json    name, classes in the order of the labels 1..C, rules, sources, and for each split the folders of its
                    images and masks, its number of images and the sha256 of its list
    <part>.json     the same of splits that are prepared on their own, because they need archives of their own
    <split>.csv     id, classes (separated by |): one line per image

A part can be added at any time: what was made of the splits of dataset.json stays as it is. The photographs stay where
they were unpacked. Folders inside the prepared one, and folders given as relative paths, are stored relative to it, so
that everything can be moved together.
"""

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from getam.constants import BASE
from getam.utils.checks import suggestion
from getam.utils.files import check_present, read_json

DESCRIPTION = f"{BASE}.json"
SEPARATOR = "|"  # some of COCO's class names have spaces, none has this


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
    splits: Mapping[str, Split]

    def split(self, name: str) -> Split:
        """One split.

        Raises:
            ValueError: there is none of this name.
        """
        if name not in self.splits:
            raise ValueError(f"{self.folder}: no split {name!r}; {suggestion(name, self.splits)}")
        return self.splits[name]


class _Splits(Mapping[str, Split]):
    """The splits by their names. A list is read when it is first asked for: other jobs may be writing other parts."""

    def __init__(self, readers: dict[str, Callable[[], Split]]):
        self._readers = readers
        self._read: dict[str, Split] = {}

    def __getitem__(self, name: str) -> Split:
        if name not in self._read:
            self._read[name] = self._readers[name]()
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def open_dataset(folder: Path | str) -> DataSet:
    """Reads what `getam prepare` has written.

    Raises:
        FileNotFoundError: the folder holds no prepared data set.
        ValueError: one of its files has been changed, or the description is not valid.

    >>> dataset = open_dataset(shapes)  # a folder that `getam prepare` has written
    >>> dataset.classes
    ('striped disc', 'checkered square', 'framed triangle', 'banded star', 'grainy cross')
    >>> dataset.split("train").labels.shape
    (24, 5)
    """
    folder = Path(folder)
    path = folder / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} is not a prepared data set: no {DESCRIPTION} in it; `getam prepare` writes one"
        )
    description = read_json(path)
    readers = _readers(path, description)
    for part, described in _parts(folder).items():
        place = folder / f"{part}.json"
        more = _readers(place, described)
        if described["name"] != description["name"] or described["classes"] != description["classes"]:
            raise ValueError(f"{place} is a part of another data set than {path}; run `getam prepare` again")
        if twice := set(more) & set(readers):
            raise ValueError(f"{place}: split {min(twice)!r} is described twice; run `getam prepare` again")
        readers |= more
    splits = _Splits(readers)
    for name in description["splits"]:
        splits[name]
    return DataSet(folder, description["name"], tuple(description["classes"]), splits)


def description_of(dataset: DataSet, split: str) -> Path:
    """The description that has a split: dataset.json, or that of a part."""
    for part, description in _parts(dataset.folder).items():
        if split in description["splits"]:
            return dataset.folder / f"{part}.json"
    return dataset.folder / DESCRIPTION


def splits_of_part(path: Path) -> Mapping[str, Split]:
    """The splits of one description. Raises a ValueError if it is not one."""
    return _Splits(_readers(path, read_json(path)))


def _parts(folder: Path) -> dict[str, dict]:
    """The descriptions of the parts beside dataset.json."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            description = read_json(path)
        except FileNotFoundError:  # another job has begun to write it again
            continue
        if path.name != DESCRIPTION and isinstance(description, dict) and description.get("part") == path.stem:
            found[path.stem] = description
    return found


def _readers(path: Path, description: dict) -> dict[str, Callable[[], Split]]:
    """For each split that a description has, the function that reads it."""
    try:
        classes = tuple(description["classes"])
        description["name"]
        entries = description["splits"].items()
        return {name: partial(_read_split, path, name, classes, entry) for name, entry in entries}
    except (KeyError, TypeError, AttributeError) as error:
        raise _not_described(path, error) from error


def _not_described(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} does not describe a data set: {error!r}; run `getam prepare` again")


def _read_split(description: Path, name: str, classes: tuple[str, ...], entry: dict) -> Split:
    folder = description.parent
    path = folder / f"{name}.csv"
    content = path.read_bytes()
    try:
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise ValueError(f"{path} is not the list that {description.name} describes; run `getam prepare` again")
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        labels = None
        if entry["labelled"]:
            index = {name: i for i, name in enumerate(classes)}
            labels = np.zeros((len(rows), len(classes)), np.float32)
            for i, row in enumerate(rows):
                labels[i, [index[present] for present in row["classes"].split(SEPARATOR) if present]] = 1
        masks = None if entry["masks"] is None else folder / entry["masks"]
        ids = tuple(row["id"] for row in rows)
        return Split(name, ids, labels, folder / entry["images"], entry["image_suffix"], masks)
    except (KeyError, TypeError, AttributeError) as error:
        raise _not_described(description, error) from error


def check_images(split: Split) -> None:
    """Raises a FileNotFoundError that names the first missing image, unless all exist."""
    check_present(split.images, [split.image(name) for name in split.ids], f"images of split {split.name!r}")


def check_saliency(split: Split, folder: Path) -> None:
    """Raises a FileNotFoundError that names the first missing map, unless every image has one."""
    paths = [folder / f"{name}.png" for name in split.ids]
    check_present(folder, paths, f"saliency maps of split {split.name!r}", "`getam saliency` makes them")


def check_labels(split: Split, folder: Path) -> None:
    """Raises a FileNotFoundError that names the first missing mask, unless every image has one in the folder."""
    paths = [folder / f"{name}.png" for name in split.ids]
    maker = "" if folder == split.masks else "`getam label`, or `getam refine --known-classes`, makes them"
    check_present(folder, paths, f"given labels of split {split.name!r}", maker)
