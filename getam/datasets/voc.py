"""PASCAL VOC 2012 in its own layout: JPEGImages, Annotations, SegmentationClass, ImageSets/Segmentation."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

# In the order of the labels 1 to 20.
CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def split_ids(root: Path, split: str) -> list[str]:
    """Image ids of a list in ImageSets/Segmentation, such as `train` or `val`.

    Raises:
        FileNotFoundError: `root` has no such list.
        ValueError: the list is empty.
    """
    path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not path.is_file():
        raise FileNotFoundError(f"no list of images {path}; the root is the folder VOC2012")
    ids = path.read_text().split()
    if not ids:
        raise ValueError(f"{path} lists no image")
    return ids


def image_labels(annotation: Path) -> np.ndarray:
    """float32 (20,), 1 for each class of which the XML annotation names an object, difficult ones too.

    Raises:
        FileNotFoundError: there is no such annotation.
        ValueError: it is no XML, or names a class that VOC does not have.
    """
    if not annotation.is_file():
        raise FileNotFoundError(f"no annotation {annotation}")
    try:
        names = {name.text for name in ElementTree.parse(annotation).iterfind("object/name")}
    except ElementTree.ParseError as error:
        raise ValueError(f"{annotation} is no XML: {error}") from error
    labels = np.zeros(len(CLASSES), np.float32)
    for name in names:
        if name not in CLASSES:
            raise ValueError(f"{annotation}: unknown class {name!r}; VOC's are {', '.join(CLASSES)}")
        labels[CLASSES.index(name)] = 1
    return labels
