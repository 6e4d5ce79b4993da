"""SBD, the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011): masks for more of VOC's photographs.

Its root is the folder `dataset` of its archive, with train.txt, val.txt and cls/<id>.mat.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import scipy.io

_LABELS = (*range(21), 255)


def train_aug_ids(train: Iterable[str], val: Iterable[str], sbd: Iterable[str]) -> tuple[str, ...]:
    """(All of SBD's images and VOC's train) without VOC's val, in alphabetical order."""
    return tuple(sorted((set(sbd) | set(train)) - set(val)))


def all_ids(root: Path) -> list[str]:
    """The image ids of its own train and val lists.

    Raises:
        FileNotFoundError: a list is missing.
    """
    lists = [root / "train.txt", root / "val.txt"]
    for path in lists:
        if not path.is_file():
            raise FileNotFoundError(f"no list of images {path}; SBD's root is the folder dataset of its archive")
    return [name for path in lists for name in path.read_text(encoding="utf-8-sig").split()]


def read_mat_mask(path: Path) -> np.ndarray:
    """uint8 (H, W), the labels 0..20 of one of the cls/<id>.mat files.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file, or has other labels.
    """
    try:
        with path.open("rb") as file:
            content = scipy.io.loadmat(file, squeeze_me=True, struct_as_record=False)
        mask = np.asarray(content["GTcls"].Segmentation)
    except FileNotFoundError:
        raise
    except Exception as error:  # loadmat raises many types on broken files
        raise ValueError(f"{path} is not a mask of SBD: {error!r}") from error
    if mask.ndim != 2 or mask.dtype.kind not in "uif" or not np.isin(mask, _LABELS).all():
        raise ValueError(f"{path}: expected an (H, W) array of labels 0..20 or 255")
    return mask.astype(np.uint8)
