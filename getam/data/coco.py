"""COCO 2014 in its own layout: train2014, val2014, annotations/instances_{train,val}2014.json.

COCO has instances, not semantic masks, and several incompatible renderings circulate. Ours: instances are drawn from
the largest to the smallest, so that the smaller one lies on top. The area is the number of pixels; of two instances
with the same area the one with the higher annotation id lies on top. A crowd region is drawn by the same rule, as its
class (`crowd="class"`) or as 255, unknown (`crowd="ignore"`). The image-level labels are the classes of all instances,
crowds included. Images without instances are separate splits.
"""

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pycocotools import mask as rle

from getam.constants import UNKNOWN
from getam.data.dataset import DataSet, Split, begin_dataset, digest_of, pixel_digest, write_dataset
from getam.data.images import write_mask
from getam.utils.checks import check_choice
from getam.utils.json_stream import read_object
from getam.utils.parallel import map_unordered
from getam.utils.progress import progress

CROWD = ("class", "ignore")
_KEPT = ("id", "iscrowd", "segmentation")
_FARTHEST = 10  # outlines end within the image, but for rounding
# (images with objects, images without) of the published annotations.
COUNTS = {"train": (82081, 702), "val": (40137, 367)}


@dataclass(frozen=True)
class Image:
    """One image of the annotations: its file name without suffix, its size, and its instances."""

    name: str
    height: int
    width: int
    instances: tuple[dict, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """An image whose instances are still in the file: of COCO's train, they would take two gigabytes of memory.

    Attributes:
        annotations: the file.
        places: three numbers for each instance: its label, its first byte in the file, its number of bytes.
    """

    name: str
    height: int
    width: int
    annotations: Path
    places: array

    def __len__(self) -> int:
        return len(self.places) // 3

    @property
    def labels(self) -> list[int]:
        """The label 1..C of each instance."""
        return self.places[::3].tolist()

    def read(self) -> Image:
        """The image with its instances: `id`, `iscrowd` and `segmentation` as COCO has them, and `label`."""
        instances = []
        with self.annotations.open("rb") as file:
            for label, start, length in zip(*(self.places[i::3] for i in range(3)), strict=True):
                file.seek(start)
                annotation = json.loads(file.read(length))
                instances.append({**{key: annotation[key] for key in _KEPT}, "label": label})
        return Image(self.name, self.height, self.width, tuple(instances))


def prepare(
    root: Path,
    folder: Path,
    crowd: str = "class",
    subset: bool = False,
    sources: Sequence[dict] = (),
    workers: int = 1,
) -> DataSet:
    """Writes lists, image-level labels and semantic masks of COCO 2014 into `folder`.

    The splits are train and val, and train_without_objects and val_without_objects where there are such images.

    Args:
        root: the folder of train2014, val2014 and annotations.
        crowd: how a crowd region is drawn in the masks: `class` or `ignore`.
        subset: `root` is a part of COCO: do not check the published numbers of images.
        sources: names and checksums of the archives, kept in the description.

    Raises:
        FileNotFoundError, ValueError: something is missing, unreadable, or not as many as published; the message names
            it.
    """
    check_choice("crowd", crowd, CROWD)
    splits, digests, classes = [], {}, None
    for name in COUNTS:
        path = root / "annotations" / f"instances_{name}2014.json"
        found, found_digests, names = _prepare_split(path, name, folder, crowd, subset, workers)
        if classes not in (None, names):
            raise ValueError(f"{path} has other categories than the other split")
        classes = names
        splits += found
        digests |= found_digests
    about = {"sources": list(sources), "crowd": crowd, "overlaps": "smaller on top", "masks_sha256": digests}
    return write_dataset(folder, "coco", classes, splits, about)


def _prepare_split(
    path: Path, name: str, folder: Path, crowd: str, subset: bool, workers: int
) -> tuple[list[Split], dict[str, str], tuple[str, ...]]:
    """Of one file of annotations: the splits with and without objects, the digests of their masks, the class names."""
    classes, images = read_instances(path)
    chosen = {name: [image for image in images if len(image)]}
    chosen[f"{name}_without_objects"] = [image for image in images if not len(image)]
    found = tuple(map(len, chosen.values()))
    if not subset and found != COUNTS[name]:
        raise ValueError(
            f"{path}: {found[0]} images with and {found[1]} without objects, COCO 2014 has {COUNTS[name][0]} and "
            f"{COUNTS[name][1]}; a part of COCO is prepared with --subset"
        )
    begin_dataset(folder, "coco")
    splits, digests = [], {}
    for split, those in chosen.items():
        if those:
            masks = folder / "masks" / split
            try:
                digests[split] = _write_masks(those, masks, crowd, split, workers)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            labels = np.stack([image_labels(image, len(classes)) for image in those])
            photographs = path.parents[1] / f"{name}2014"
            splits.append(Split(split, tuple(image.name for image in those), labels, photographs, ".jpg", masks))
    return splits, digests, classes


def read_instances(path: Path) -> tuple[tuple[str, ...], list[Listed]]:
    """The class names, by ascending category id, and the images, by ascending image id.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file, or an annotation refers to an image or a category that it does not list.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no annotations {path}; the root is the folder of train2014, val2014 and annotations")
    places: dict[int, array] = defaultdict(lambda: array("q"))
    found: list[tuple] = []

    def note_annotation(annotation: dict, start: int, length: int) -> None:
        for key in _KEPT:
            annotation[key]  # a KeyError here, not in a worker
        places[annotation["image_id"]].extend((annotation["category_id"], start, length))

    def note_image(image: dict, start: int, length: int) -> None:
        found.append((image["id"], Path(image["file_name"]).stem, image["height"], image["width"]))

    try:
        content = read_object(path, {"annotations": note_annotation, "images": note_image})
        _ = content["images"], content["annotations"]
        categories = sorted(content["categories"], key=lambda category: category["id"])
        label_of = {category["id"]: i + 1 for i, category in enumerate(categories)}
        for of_image in places.values():
            of_image[::3] = array("q", [label_of[category] for category in of_image[::3]])
        images = [
            Listed(name, height, width, path, places.pop(number, array("q")))
            for number, name, height, width in sorted(found)
        ]
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} has no instances as COCO writes them: {error!r}") from error
    for what, values in (
        ("category id", [category["id"] for category in categories]),
        ("category name", [category["name"] for category in categories]),
        ("image", [image.name for image in images]),
    ):
        value, times = Counter(values).most_common(1)[0] if values else (None, 0)
        if times > 1:
            raise ValueError(f"{path} lists {what} {value!r} {times} times")
    if places:
        raise ValueError(f"{path}: an annotation is of image {next(iter(places))}, which is not listed")
    return tuple(category["name"] for category in categories), images


def image_labels(image: Listed, num_classes: int) -> np.ndarray:
    """float32 (C,), 1 for each class of which the image has an instance or a crowd."""
    labels = np.zeros(num_classes, np.float32)
    labels[[label - 1 for label in image.labels]] = 1
    return labels


def render_mask(image: Image, crowd: str = "class") -> np.ndarray:
    """uint8 (H, W), the semantic mask by the rule of this module.

    Raises:
        ValueError: an instance has no readable outline.
    """
    size = image.height, image.width
    try:
        outlines = [_pixels(instance, size) for instance in image.instances]
    except ValueError as error:
        raise ValueError(f"image {image.name}: {error}") from error
    order = sorted(range(len(outlines)), key=lambda i: (-int(outlines[i].sum()), image.instances[i]["id"]))
    mask = np.zeros(size, np.uint8)
    for i in order:
        instance = image.instances[i]
        unknown = instance["iscrowd"] and crowd == "ignore"
        mask[outlines[i]] = UNKNOWN if unknown else instance["label"]
    return mask


def _pixels(instance: dict, size: tuple[int, int]) -> np.ndarray:
    """bool (H, W), the instance's pixels. COCO stores polygons, or run lengths as numbers or as compressed text."""
    outline = instance["segmentation"]
    try:
        if isinstance(outline, list):
            _check_polygons(outline, max(size))
            return rle.decode(rle.merge(rle.frPyObjects(outline, *size))) > 0
        if list(outline["size"]) != list(size):
            raise ValueError(f"its size is {outline['size']}, the image's {list(size)}")
        if isinstance(outline["counts"], list):
            if not all(isinstance(run, int) and run >= 0 for run in outline["counts"]):
                raise ValueError("its runs are not whole numbers from 0")
            if sum(outline["counts"]) != size[0] * size[1]:
                raise ValueError(f"its runs cover {sum(outline['counts'])} pixels")  # the rest would be undefined
            outline = rle.frPyObjects(outline, *size)
        return rle.decode(outline) > 0
    except Exception as error:  # pycocotools raises plain Exception
        raise ValueError(f"annotation {instance['id']} has no readable outline: {error!r}") from error


def _check_polygons(polygons: list, side: int) -> None:
    """pycocotools crashes on coordinates that are not numbers of a reasonable size."""
    for polygon in polygons:
        numbers = all(type(x) in (int, float) for x in polygon)
        if not numbers or len(polygon) % 2 or not all(abs(x) <= _FARTHEST * side for x in polygon):
            raise ValueError(f"expected pairs of finite coordinates within {_FARTHEST} times the image's side")


def _write_masks(images: list[Listed], folder: Path, crowd: str, split: str, workers: int) -> str:
    jobs = map_unordered(partial(_write_mask, folder=folder, crowd=crowd), images, workers)
    return digest_of(dict(progress(jobs, total=len(images), desc=f"masks of {split}", unit="image")))


def _write_mask(image: Listed, folder: Path, crowd: str) -> tuple[str, str]:
    mask = render_mask(image.read(), crowd)
    write_mask(folder / f"{image.name}.png", mask)
    return image.name, pixel_digest(mask)
