"""PASCAL VOC 2012 in its own layout (JPEGImages, Annotations, SegmentationClass, ImageSets/Segmentation), and its
training set train_aug, enlarged by SBD (Hariharan et al., ICCV 2011).
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np

from getam.constants import BASE
from getam.data.dataset import DataSet, Split
from getam.data.hold_out import hold_out as hold_out_of
from getam.data.images import IMAGE_SUFFIXES, read_mask, write_mask
from getam.data.parts import PARTS
from getam.data.preparation import Part, begin_dataset, digest_of, pixel_digest, write_dataset
from getam.data.sbd import all_ids, read_mat_mask, train_aug_ids
from getam.utils.checks import check_choice, suggestion
from getam.utils.parallel import map_unordered
from getam.utils.progress import progress

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

# Images of the published lists. train_aug is the usual training set.
COUNTS = {"train": 1464, "val": 1449, "train_aug": 10582, "test": 1456}


def prepare(
    root: Path,
    folder: Path,
    sbd: Path | None = None,
    test: Path | None = None,
    subset: bool = False,
    sources: Sequence[dict] = (),
    workers: int = 1,
    masks: Path | None = None,
    part: str | None = None,
    hold_out: int | None = None,
    seed: int = 0,
) -> DataSet:
    """Writes the lists and image-level labels of VOC 2012 into `folder`, and with SBD the masks of train_aug.

    The splits are train, val, train_aug and test. train_aug and test are parts: descriptions of their own, which can
    be added later. train_aug is derived from SBD's lists, or else from the names of `masks`; SBD's masks serve where
    VOC has none. Without both, it is read from ImageSets and SegmentationClassAug.

    Args:
        root: the folder VOC2012 of the trainval archive.
        sbd: the folder `dataset` of SBD's archive.
        test: the folder VOC2012 of the test archive.
        subset: `root` is a part of VOC: do not check the published numbers of images.
        sources: names and checksums of the archives, kept in the description.
        masks: a folder of masks <id>.png of train_aug, in place of `sbd`.
        part: `dataset` (train and val), `train_aug` or `test` alone; None: all for which there are files.
        hold_out: the part train_aug also gets the splits train_aug_held_out, this many of its images, to choose
            settings on, and train_aug_fit, all others.
        seed: another seed holds out other images.

    Raises:
        FileNotFoundError, ValueError: something is missing, unreadable, or not as many as published; the message names
            it.
    """
    if part is not None:
        check_choice("part", part, tuple(PARTS["voc"]))
    if sbd is not None and masks is not None:
        raise ValueError("the masks of train_aug come from --sbd or from --masks, not from both")
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; the root is the folder VOC2012")
    lists = root / "ImageSets" / "Segmentation"
    there = {
        BASE: True,
        "train_aug": sbd is not None or masks is not None or (lists / "train_aug.txt").is_file(),
        "test": test is not None,
    }
    chosen = [name for name in PARTS["voc"] if there[name]] if part is None else [part]
    # All lists are read before anything is written.
    splits = {name: _splits(root, folder, name, sbd, masks, test) for name in chosen}
    if not subset:
        for found in chain(*splits.values()):
            _check_count(found)
    derived = {}
    if hold_out is not None and "train_aug" in splits:
        derived["train_aug"] = hold_out_of(splits["train_aug"][0], hold_out, seed)
    elif hold_out is not None and part is None:
        raise ValueError("images are held out of train_aug: it needs its list, --sbd or --masks")
    begin_dataset(folder, "voc", PARTS["voc"] if part is None else chosen)
    parts = {}
    for name, those in splits.items():
        about = {"sources": list(sources)}
        if name == "train_aug" and sbd is not None:
            (made,) = those
            about["train_aug_masks_sha256"] = _write_train_aug_masks(root, sbd, made.masks, made.ids, workers)
        if name in derived:
            about["held_out"] = {"images": hold_out, "seed": seed}
        parts[name] = Part([*those, *derived.get(name, ())], about)
    return write_dataset(folder, "voc", CLASSES, parts, read_masks=True, workers=workers)


def _splits(
    root: Path, folder: Path, part: str, sbd: Path | None, masks: Path | None, test: Path | None
) -> list[Split]:
    """The splits of a part. The masks that are made of SBD's are not written yet."""
    if part == "test":
        if test is None:
            raise ValueError("the part 'test' needs --test, the folder VOC2012 of the unpacked test archive")
        return [Split("test", tuple(split_ids(test, "test")), None, test / "JPEGImages", ".jpg", None)]
    if part == BASE:
        return [split(root, name) for name in PARTS["voc"][BASE]]
    if sbd is None and masks is None:
        return [split(root, "train_aug", masks=root / "SegmentationClassAug")]
    train, val = split_ids(root, "train"), split_ids(root, "val")
    ids = train_aug_ids(train, val, all_ids(sbd) if sbd is not None else mask_ids(masks))
    made = folder / "SegmentationClassAug" if sbd is not None else masks
    return [Split("train_aug", ids, labels_of(root, ids), root / "JPEGImages", ".jpg", made)]


def mask_ids(folder: Path) -> list[str]:
    """The ids of the masks <id>.png of a folder, in alphabetical order.

    Raises:
        FileNotFoundError: there is no such folder, or it has no mask.
    """
    found = sorted(path.stem for path in folder.glob("*.png")) if folder.is_dir() else []
    if not found:
        raise FileNotFoundError(f"no masks <id>.png in {folder}; it is the folder SegmentationClassAug of its archive")
    return found


def split(root: Path, name: str, classes: Sequence[str] = CLASSES, masks: Path | None = None) -> Split:
    """A labelled split of a data set in VOC's layout; `masks` is SegmentationClass unless it is given."""
    ids = tuple(split_ids(root, name))
    masks = masks or root / "SegmentationClass"
    return Split(name, ids, labels_of(root, ids, classes), root / "JPEGImages", ".jpg", masks)


def _check_count(found: Split) -> None:
    expected = COUNTS[found.name]
    if len(found) != expected:
        raise ValueError(
            f"{found.images.parent}: split {found.name!r} has {len(found)} images, VOC 2012's has {expected}; "
            "a part of VOC is prepared with --subset"
        )


def _write_train_aug_masks(root: Path, sbd: Path, folder: Path, ids: Sequence[str], workers: int) -> str:
    """Writes <id>.png for each id; returns the sha256 of all labels."""
    jobs = map_unordered(partial(_write_train_aug_mask, root, sbd, folder), ids, workers)
    return digest_of(dict(progress(jobs, total=len(ids), desc="masks of train_aug", unit="image")))


def _write_train_aug_mask(root: Path, sbd: Path, folder: Path, name: str) -> tuple[str, str]:
    own = root / "SegmentationClass" / f"{name}.png"
    mask = read_mask(own) if own.is_file() else read_mat_mask(sbd / "cls" / f"{name}.mat")
    write_mask(folder / f"{name}.png", mask)
    return name, pixel_digest(mask)


def split_ids(root: Path, split: str) -> list[str]:
    """Image ids of a list in ImageSets/Segmentation, such as `train` or `val`.

    A line may also be `/JPEGImages/<id>.jpg /SegmentationClassAug/<id>.png`, `<id> 1` or `<id>.jpg`.

    Raises:
        FileNotFoundError: `root` has no such list.
        ValueError: the list is empty, or is not UTF-8.
    """
    path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not path.is_file():
        raise FileNotFoundError(f"no list of images {path}; the root is the folder VOC2012")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}; save it as UTF-8") from error
    if "\0" in text:
        raise ValueError(f"{path} is not UTF-8 text, probably UTF-16; save it as UTF-8")
    # Other lists of the field have a path and its mask in a line, or an id and a number.
    ids = [_id_of(line.split()[0]) for line in text.splitlines() if line.strip()]
    if not ids:
        raise ValueError(f"{path} lists no image")
    return ids


def _id_of(entry: str) -> str:
    path = PurePosixPath(entry)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else entry


def labels_of(root: Path, ids: Sequence[str], classes: Sequence[str] = CLASSES) -> np.ndarray:
    """float32 (M, C), the image-level labels of Annotations/<id>.xml. Raises as `image_labels` does."""
    return np.stack([image_labels(root / "Annotations" / f"{name}.xml", classes) for name in ids])


def image_labels(annotation: Path, classes: Sequence[str] = CLASSES) -> np.ndarray:
    """float32 (C,), 1 for each class of which the XML annotation names an object, difficult ones too.

    Raises:
        FileNotFoundError: there is no such annotation.
        ValueError: it is not an annotation of VOC, has an object without a name, or names an unknown class.
    """
    if not annotation.is_file():
        raise FileNotFoundError(f"no annotation {annotation}")
    try:
        root = ElementTree.parse(annotation).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: an encoding of another kind
        raise ValueError(f"{annotation} is not XML that can be read: {error}; save it as UTF-8") from error
    if root.tag != "annotation":
        raise ValueError(f"{annotation}: expected the element <annotation> without a namespace, found <{root.tag}>")
    names = {(found.findtext("name") or "").strip() for found in root.iterfind("object")}
    if "" in names:
        raise ValueError(f"{annotation}: an <object> has no <name>")
    labels = np.zeros(len(classes), np.float32)
    for name in names:
        if name not in classes:
            raise ValueError(f"{annotation}: unknown class {name!r}; {suggestion(name, classes)}")
        labels[classes.index(name)] = 1
    return labels
