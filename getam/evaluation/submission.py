"""The archive for the VOC evaluation server, checked against the server's rules.

docs/explanation/method.md, section 6.
"""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from getam.data.dataset import Split
from getam.data.images import image_size, palette, read_mask
from getam.utils.files import check_present, written

_FOLDER = "results/VOC2012/Segmentation/comp6_{split}_cls"
_MOST_LABEL = 20


def write_submission(split: Split, masks: Path, archive: Path) -> int:
    """Packs <id>.png of a folder for the server and returns their number; the archive appears whole or not at all.

    The server expects a mask of every image of the split: a palette PNG with VOC's colours, of the image's size, with
    labels 0 to 20 and no 255. The same masks give the same bytes.

    Raises:
        FileNotFoundError: a mask is missing.
        ValueError: a mask breaks a rule; the message names it and the rule.
    """
    if not archive.name.endswith((".tar.gz", ".tgz")):
        raise ValueError(f"{archive}: the server takes .tar.gz or .tgz")
    check_present(masks, [masks / f"{name}.png" for name in split.ids], f"masks of split {split.name!r}")
    folder = _FOLDER.format(split=split.name)
    with written(archive) as unfinished, unfinished.open("wb") as file:
        # gzip stores the time of writing, and tar that of each file, unless told otherwise.
        packed = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
        with packed, tarfile.open(mode="w", fileobj=packed) as tar:
            for name in sorted(split.ids):
                path = masks / f"{name}.png"
                _check(path, image_size(split.image(name)))
                content = path.read_bytes()
                entry = tarfile.TarInfo(f"{folder}/{name}.png")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return len(split)


def _check(path: Path, size: tuple[int, int]) -> None:
    labels = read_mask(path, size)
    if labels.max() > _MOST_LABEL:
        raise ValueError(f"{path}: label {labels.max()}; the server takes 0 to {_MOST_LABEL}")
    with Image.open(path) as image:
        colours = image.getpalette() if image.mode == "P" else None
    if colours is None or (np.array(colours).reshape(-1, 3) != palette()[: len(colours) // 3]).any():
        raise ValueError(f"{path}: the server takes palette PNGs with VOC's colours")
