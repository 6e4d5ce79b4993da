"""COCO 2014 in its own layout: train2014, val2014, annotations/instances_{train,val}2014.json.

COCO has instances, not semantic masks, and several incompatible renderings circulate. Ours: instances are drawn from
the largest to the smallest, so that the smaller one lies on top. The area is the number of pixels; of two instances
with the same area the one with the higher annotation id lies on top. A crowd region is drawn by the same rule, as its
class (`crowd="class"`) or as 255, unknown (`crowd="ignore"`). The image-level labels are the classes of all instances,
crowds included. Images without instances are separate splits.
"""

import pickle
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ijson
import numpy as np
from pycocotools import mask as rle

from getam.constants import BASE, UNKNOWN
from getam.data.dataset import DataSet, Split, open_dataset
from getam.data.images import write_mask
from getam.data.parts import PARTS
from getam.data.preparation import Part, begin_dataset, digest_of, pixel_digest, write_dataset
from getam.utils.checks import check_choice
from getam.utils.parallel import map_unordered
from getam.utils.progress import progress

CROWD = ("class", "ignore")
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
    """An image whose instances are in a file of their own: of COCO's train, they would take two gigabytes of memory.

    Attributes:
        outlines: the file.
        places: three numbers for each instance: its label, its first byte in the file, its number of bytes.
    """

    name: str
    height: int
    width: int
    outlines: Path
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
        with self.outlines.open("rb") as file:
            for label, start, length in zip(*(self.places[i::3] for i in range(3)), strict=True):
                file.seek(start)
                instances.append({**pickle.loads(file.read(length)), "label": label})
        return Image(self.name, self.height, self.width, tuple(instances))


def prepare(
    root: Path,
    folder: Path,
    crowd: str = "class",
    subset: bool = False,
    sources: Sequence[dict] = (),
    workers: int = 1,
    part: str | None = None,
) -> DataSet:
    """Writes lists, image-level labels and semantic masks of COCO 2014 into `folder`.

    The splits are val and train, and val_without_objects and train_without_objects where there are such images. Those
    of the training images are a part: a description of their own, which can be added later.

    Args:
        root: the folder of train2014, val2014 and annotations.
        crowd: how a crowd region is drawn in the masks: `class` or `ignore`.
        subset: `root` is a part of COCO: do not check the published numbers of images.
        sources: names and checksums of the archives, kept in the description.
        part: `dataset` (the validation images) or `train` alone; None: both.

    Raises:
        FileNotFoundError, ValueError: something is missing, unreadable, or not as many as published; the message names
            it.
    """
    check_choice("crowd", crowd, CROWD)
    if part is not None:
        check_choice("part", part, tuple(PARTS["coco"]))
    chosen = list(PARTS["coco"]) if part is None else [part]
    folder.mkdir(parents=True, exist_ok=True)
    parts, classes = {}, None
    for name in chosen:
        split = PARTS["coco"][name][0]
        path = root / "annotations" / f"instances_{split}2014.json"
        outlines = folder / f".outlines-{split}"  # as large as the annotations, so not in /tmp
        try:
            splits, digests, names = _prepare_split(path, outlines, split, folder, crowd, subset, workers, chosen)
        finally:
            outlines.unlink(missing_ok=True)
        if BASE not in chosen:
            classes = open_dataset(folder).classes
        if classes not in (None, names):
            raise ValueError(f"{path} has other categories than the validation images")
        classes = names
        about = {"sources": list(sources), "crowd": crowd, "overlaps": "smaller on top", "masks_sha256": digests}
        parts[name] = Part(splits, about)
    return write_dataset(folder, "coco", classes, parts)


def _prepare_split(
    path: Path, outlines: Path, name: str, folder: Path, crowd: str, subset: bool, workers: int, parts: list[str]
) -> tuple[list[Split], dict[str, str], tuple[str, ...]]:
    """Of one file of annotations: the splits with and without objects, the digests of their masks, the class names."""
    classes, images = read_instances(path, outlines)
    chosen = {name: [image for image in images if len(image)]}
    chosen[f"{name}_without_objects"] = [image for image in images if not len(image)]
    found = tuple(map(len, chosen.values()))
    if not subset and found != COUNTS[name]:
        raise ValueError(
            f"{path}: {found[0]} images with and {found[1]} without objects, COCO 2014 has {COUNTS[name][0]} and "
            f"{COUNTS[name][1]}; a part of COCO is prepared with --subset"
        )
    begin_dataset(folder, "coco", parts)
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


def read_instances(path: Path, outlines: Path) -> tuple[tuple[str, ...], list[Listed]]:
    """The class names, by ascending category id, and the images, by ascending image id.

    Args:
        outlines: a file to write the instances to, which the images read them from.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file, or an annotation refers to an image or a category that it does not list.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no annotations {path}; the root is the folder of train2014, val2014 and annotations")
    try:
        categories = sorted(_elements(path, "categories"), key=lambda category: category["id"])
        label_of = {category["id"]: i + 1 for i, category in enumerate(categories)}
        places = _write_outlines(path, outlines, label_of)
        found = [
            (image["id"], Path(image["file_name"]).stem, image["height"], image["width"])
            for image in _elements(path, "images")
        ]
        images = [
            Listed(name, height, width, outlines, places.pop(number, array("q")))
            for number, name, height, width in sorted(found)
        ]
    except (ValueError, KeyError, TypeError, OverflowError, ijson.JSONError) as error:
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


def _elements(path: Path, key: str) -> Iterator[dict]:
    """The elements of one array of the annotations, without holding the others. Raises a ValueError if it has none."""
    count = 0
    with path.open("rb") as file:
        for element in ijson.items(file, f"{key}.item", use_float=True):
            count += 1
            yield element
    if not count:
        raise ValueError(f"no {key}")


def _write_outlines(path: Path, outlines: Path, label_of: dict[int, int]) -> dict[int, array]:
    """Writes every instance to a file; returns the places of those of each image, as `Listed` has them."""
    places: dict[int, array] = defaultdict(lambda: array("q"))
    with outlines.open("wb") as file:
        for annotation in _elements(path, "annotations"):
            content = pickle.dumps({key: annotation[key] for key in ("id", "iscrowd", "segmentation")})
            places[annotation["image_id"]].extend((label_of[annotation["category_id"]], file.tell(), len(content)))
            file.write(content)
    return places


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
