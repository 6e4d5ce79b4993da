"""Digests and sources of the data that a step reads, so that outputs made from other data are recognised as stale."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from getam.data.dataset import DataSet, Split, check_images, check_labels, check_saliency
from getam.utils.files import read_json
from getam.utils.outputs import NOTE
from getam.utils.provenance import file_digest

_AT_ONCE = 16  # files; on a network disk most of the time is latency


def training_data_digests(dataset: DataSet, split: Split, saliency: Path | None) -> dict[str, str]:
    """sha256 of the split's list and classes, of its images' names and sizes, and of its saliency maps.

    Raises:
        FileNotFoundError: an image or a map is missing; the message names it.
    """
    check_images(split)
    digests = {"list": list_digest(dataset, split), "images": images_digest(split)}
    if saliency is not None:
        check_saliency(split, saliency)
        digests["saliency"] = _joined(_map(file_digest, [saliency / f"{name}.png" for name in split.ids]))
    return digests


def labels_digest(split: Split, folder: Path) -> str:
    """sha256 of the labels that a split's images are given, the masks <id>.png of a folder.

    Raises:
        FileNotFoundError: one is missing; the message names it.
    """
    check_labels(split, folder)
    return _joined(_map(file_digest, [folder / f"{name}.png" for name in split.ids]))


def saliency_source(folder: Path | None) -> str:
    """The source of a folder of saliency maps, as `getam saliency` has noted it; `none` without a folder."""
    if folder is None:
        return "none"
    note = folder / NOTE
    return read_json(note)["settings"]["source"] if note.is_file() else "not noted"


def list_digest(dataset: DataSet, split: Split) -> str:
    """sha256 of a split's ids and labels and of the data set's class names."""
    labels = b"" if split.labels is None else split.labels.tobytes()
    return hashlib.sha256("\n".join((*dataset.classes, "", *split.ids)).encode() + labels).hexdigest()


def images_digest(split: Split) -> str:
    """sha256 of the names and sizes of a split's image files: fast, while reading a large data set takes minutes."""
    sizes = _map(lambda path: str(path.stat().st_size), [split.image(name) for name in split.ids])
    return _joined(f"{name} {size}" for name, size in zip(split.ids, sizes, strict=True))


def _map(function, paths: list[Path]) -> list[str]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(function, paths))


def _joined(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
