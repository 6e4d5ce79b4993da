"""Data sets in VOC's and SBD's layout, small enough to be written by a test."""

from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from getam.data.images import write_mask

SIZE = (24, 30)
TRAIN, VAL, TEST = ("2007_000032", "2007_000039"), ("2007_000033", "2007_000042"), ("2008_000001",)
SBD_ONLY = ("2008_000008", "2008_000015", "2008_000019")
CLASS_OF = {"2007_000032": 1, "2007_000039": 20, "2007_000033": 8, "2007_000042": 15, "2008_000008": 13}


def mask_of(name: str) -> np.ndarray:
    """A box of the image's class with an unknown rim."""
    mask = np.zeros(SIZE, np.uint8)
    mask[4:20, 5:25] = 255
    mask[5:19, 6:24] = CLASS_OF.get(name, 3)
    return mask


def write_annotation(path: Path, *names: str) -> Path:
    objects = "".join(f"<object><name>{name}</name><difficult>1</difficult></object>" for name in names)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation><filename>x.jpg</filename>{objects}</annotation>")
    return path


def write_photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(sum(path.stem.encode()))
    Image.fromarray(generator.integers(0, 256, (*SIZE, 3), np.uint8)).save(path)


def write_voc(root: Path, classes: tuple[str, ...]) -> Path:
    """train and val with masks, SBD's images without, as the trainval archive has them."""
    for name in (*TRAIN, *VAL, *SBD_ONLY):
        write_photograph(root / "JPEGImages" / f"{name}.jpg")
        write_annotation(root / "Annotations" / f"{name}.xml", classes[CLASS_OF.get(name, 3) - 1])
    for name in (*TRAIN, *VAL):
        write_mask(root / "SegmentationClass" / f"{name}.png", mask_of(name))
    write_list(root, "train", TRAIN)
    write_list(root, "val", VAL)
    return root


def write_test(root: Path) -> Path:
    for name in TEST:
        write_photograph(root / "JPEGImages" / f"{name}.jpg")
    write_list(root, "test", TEST)
    return root


def write_list(root: Path, split: str, ids: tuple[str, ...]) -> None:
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in ids))


def write_sbd(root: Path) -> Path:
    """SBD's lists cross VOC's: its train holds an image of VOC's val, its val one of VOC's train."""
    (root / "cls").mkdir(parents=True)
    train, val = (SBD_ONLY[0], SBD_ONLY[1], VAL[0]), (SBD_ONLY[2], TRAIN[0])
    for name in (*train, *val):
        labels = np.where(mask_of(name) == 255, 0, mask_of(name)).astype(np.uint8)
        content = {"Segmentation": labels, "CategoriesPresent": np.unique(labels)[1:], "Boundaries": np.zeros((20, 1))}
        scipy.io.savemat(root / "cls" / f"{name}.mat", {"GTcls": content}, do_compression=True)
    (root / "train.txt").write_text("\n".join(train))
    (root / "val.txt").write_text("\n".join(val) + "\n")
    return root
