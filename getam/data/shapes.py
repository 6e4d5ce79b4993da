"""A synthetic data set in VOC's layout: small, and hard enough to show that the whole chain works.

A class is an outline together with a pattern of two colours. Colour, size, rotation and position are independent of the
class. Backgrounds are cluttered with plain shapes and lines, objects occlude one another, and some classes co-occur. As
in VOC, the boundary of an object is unknown (255) in the masks.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from getam.constants import BACKGROUND, BASE, UNKNOWN
from getam.data import voc
from getam.data.dataset import DataSet
from getam.data.images import write_mask
from getam.data.preparation import Part, begin_dataset, digest_of, pixel_digest, write_dataset
from getam.utils.checks import check_whole
from getam.utils.files import write_text, written
from getam.utils.parallel import map_unordered
from getam.utils.progress import progress

_OVERSAMPLING = 2  # drawn at this scale, then averaged, so that edges are smooth
_SMALLEST_VISIBLE = 0.5  # of an object's pixels
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class ShapesSettings:
    """Settings of `draw`: the same settings give the same pixels.

    Attributes:
        side: images are squares of this side, in pixels.
        train, val, test: number of images of each split.
        seed: another seed draws another data set.
    """

    side: int = 64
    train: int = 3000
    val: int = 300
    test: int = 300
    seed: int = 0

    def __post_init__(self):
        check_whole(32, side=self.side)
        check_whole(1, train=self.train, val=self.val, test=self.test)
        check_whole(0, seed=self.seed)

    @property
    def splits(self) -> dict[str, int]:
        """Number of images of each split."""
        return {"train": self.train, "val": self.val, "test": self.test}


# Outlines: inside where the value is below 1. u and v are coordinates in the object's own frame, in which its radius is
# about 1. The value grows from the centre, so that a pattern can follow the outline.
def _disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v)


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(abs(u), abs(v)) / 0.85


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    angles = 2 * np.pi * np.arange(3) / 3
    return np.max([u * np.cos(a) + v * np.sin(a) for a in angles], axis=0) / 0.6


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v) / (0.78 + 0.32 * np.cos(5 * np.arctan2(v, u)))


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    arms = [np.maximum(abs(a) / 0.4, abs(b) / 1.05) for a, b in ((u, v), (v, u))]
    return np.minimum(*arms)


# Patterns: True where the second colour is, from u, v, the outline's value and noise in 0..1 on the same grid.
def _stripes(u, v, value, noise) -> np.ndarray:
    return np.sin(2 * np.pi * 1.7 * u) > 0


def _checker(u, v, value, noise) -> np.ndarray:
    return (np.sin(2 * np.pi * 1.2 * u) > 0) ^ (np.sin(2 * np.pi * 1.2 * v) > 0)


def _frame(u, v, value, noise) -> np.ndarray:
    return value < 0.55


def _fine_bands(u, v, value, noise) -> np.ndarray:
    return np.sin(2 * np.pi * 2.7 * v) > 0


def _grain(u, v, value, noise) -> np.ndarray:
    return noise > 0.5


Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]
Pattern = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
_CLASSES: dict[str, tuple[Outline, Pattern]] = {
    "striped disc": (_disc, _stripes),
    "checkered square": (_square, _checker),
    "framed triangle": (_triangle, _frame),
    "banded star": (_star, _fine_bands),
    "grainy cross": (_cross, _grain),
}
CLASSES = tuple(_CLASSES)
# The class of the second object in half of the images: co-occurrence, which a network may mistake for evidence.
_COMPANION = {0: 1, 1: 0, 2: 3, 3: 2, 4: 0}


def prepare(folder: Path, settings: ShapesSettings | None = None, workers: int = 1) -> DataSet:
    """Draws the data set into `folder`, in VOC's layout, and writes its description.

    The description's `pixels_sha256` is the digest of images and masks as drawn, before JPEG compression.

    Raises:
        OSError: the folder cannot be written to.
    """
    settings = settings or ShapesSettings()
    begin_dataset(folder, "shapes")
    jobs = [(split, i) for split, count in settings.splits.items() for i in range(count)]
    drawing = map_unordered(partial(_write_image, folder, settings), jobs, workers)
    digests = dict(progress(drawing, total=len(jobs), desc="shapes", unit="image"))
    for split, count in settings.splits.items():
        lines = "".join(f"{image_id(split, i)}\n" for i in range(count))
        write_text(folder / "ImageSets" / "Segmentation" / f"{split}.txt", lines)
    splits = [voc.split(folder, split, CLASSES) for split in settings.splits]
    about = {"settings": asdict(settings), "pixels_sha256": digest_of(digests)}
    return write_dataset(folder, "shapes", CLASSES, {BASE: Part(splits, about)})


def image_id(split: str, index: int) -> str:
    """The file name of an image, without its suffix."""
    return f"{split}_{index:05d}"


def draw(settings: ShapesSettings, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """One image of a split: image_rgb uint8 (side, side, 3) and its mask uint8 (side, side)."""
    generator = np.random.default_rng([settings.seed, list(settings.splits).index(split), index])
    side = settings.side * _OVERSAMPLING
    canvas = _background(generator, side)
    mask = _place_objects(generator, canvas)
    image = canvas.reshape(settings.side, _OVERSAMPLING, settings.side, _OVERSAMPLING, 3).mean((1, 3))
    image = image * generator.uniform(0.75, 1.25) + generator.normal(0, generator.uniform(1, 7), image.shape)
    mask = mask[_OVERSAMPLING // 2 :: _OVERSAMPLING, _OVERSAMPLING // 2 :: _OVERSAMPLING]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), _with_unknown_boundary(mask, settings.side)


def _background(generator: np.random.Generator, side: int) -> np.ndarray:
    """float (side, side, 3): a colour gradient with waves, plain shapes and lines."""
    grid = generator.uniform(50, 206, (generator.integers(2, 5), generator.integers(2, 5), 3))
    canvas = np.stack([_resized(grid[..., c], side) for c in range(3)], -1)
    rows, columns = np.mgrid[:side, :side] / side
    waves = generator.normal(0, 3, 2)
    canvas += generator.uniform(0, 12) * np.sin(2 * np.pi * (waves[0] * rows + waves[1] * columns))[..., None]
    for _ in range(generator.integers(1, 6)):
        u, v = _own_frame(generator, rows, columns, generator.uniform(0.02, 0.09), stretch=2.5)
        outline = (_disc, _square, _triangle)[generator.integers(3)]
        canvas[outline(u, v) < 1] = generator.uniform(0, 255, 3)
    for _ in range(generator.integers(0, 4)):
        u, _ = _own_frame(generator, rows, columns, 1.0)
        canvas[abs(u) < generator.uniform(0.004, 0.012)] = generator.uniform(0, 255, 3)
    return canvas


def _resized(grid: np.ndarray, side: int) -> np.ndarray:
    size = (side, side)
    return np.asarray(Image.fromarray(grid.astype(np.float32)).resize(size, Image.Resampling.BICUBIC), np.float64)


def _own_frame(
    generator: np.random.Generator, rows: np.ndarray, columns: np.ndarray, radius: float, stretch: float = 1.25
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates u, v of an object of this radius (relative to the side) with random position, rotation and aspect."""
    y, x = generator.uniform(0.08, 0.92, 2)
    angle = generator.uniform(0, 2 * np.pi)
    longer = np.sqrt(generator.uniform(1 / stretch, stretch))
    u = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    v = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    return u / (radius * longer), v / (radius / longer)


def _place_objects(generator: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Paints one to three objects onto the canvas; returns the mask, uint8 (side, side)."""
    side = len(canvas)
    rows, columns = np.mgrid[:side, :side] / side
    owner = np.full((side, side), -1)
    placed, sizes = [], []
    for label in _choose_classes(generator):
        for _ in range(30):
            u, v = _own_frame(generator, rows, columns, generator.uniform(0.18, 0.32))
            outline, pattern = _CLASSES[CLASSES[label]]
            value = outline(u, v)
            inside = value < 1
            hidden = np.bincount(owner[inside & (owner >= 0)], minlength=len(placed))
            visible = np.bincount(owner[owner >= 0], minlength=len(placed)) - hidden
            if all(visible >= _SMALLEST_VISIBLE * np.array(sizes)):
                break
        else:
            continue  # no room: one object fewer
        owner[inside] = len(placed)
        sizes.append(inside.sum())
        placed.append(label)
        _paint(generator, canvas, inside, pattern(u, v, value, _coarse_noise(generator, side)))
    return np.array([*(label + 1 for label in placed), 0], np.uint8)[owner]


def _choose_classes(generator: np.random.Generator) -> list[int]:
    chosen = [int(generator.integers(len(CLASSES)))]
    for _ in range(generator.choice(3, p=(0.35, 0.45, 0.2))):
        company = generator.random() < 0.5
        chosen.append(_COMPANION[chosen[0]] if company else int(generator.integers(len(CLASSES))))
    return chosen


def _coarse_noise(generator: np.random.Generator, side: int) -> np.ndarray:
    """Noise in 0..1 on a grid of 44 x 44 cells, whatever the size of the image."""
    cells = generator.random((44, 44))
    nearest = np.arange(side) * 44 // side
    return cells[np.ix_(nearest, nearest)]


def _paint(generator: np.random.Generator, canvas: np.ndarray, inside: np.ndarray, second: np.ndarray) -> None:
    """Paints an object in two distinct random colours, with a linear shade across it."""
    while True:
        colours = generator.uniform(0, 255, (2, 3))
        if abs(colours[0] - colours[1]).sum() > 300:
            break
    rows, columns = np.mgrid[: len(canvas), : len(canvas)] / len(canvas)
    slope = generator.uniform(-40, 40, 2)
    shade = slope[0] * (rows - 0.5) + slope[1] * (columns - 0.5)
    painted = np.where(second[..., None], colours[0], colours[1]) + shade[..., None]
    canvas[inside] = painted[inside]


def _with_unknown_boundary(mask: np.ndarray, side: int) -> np.ndarray:
    """255 along every boundary, one pixel wide for each 64 of the side."""
    width = max(1, round(side / 64)) + 1
    different = ndimage.maximum_filter(mask, width) != ndimage.minimum_filter(mask, width)
    return np.where(different, np.uint8(UNKNOWN), mask)


def _write_image(folder: Path, settings: ShapesSettings, job: tuple[str, int]) -> tuple[str, str]:
    """Writes one image with its mask and annotation; returns its id and the digest of its pixels and labels."""
    split, index = job
    name = image_id(split, index)
    image, mask = draw(settings, split, index)
    with written(folder / "JPEGImages" / f"{name}.jpg") as unfinished:
        Image.fromarray(image).save(unfinished, format="jpeg", quality=_JPEG_QUALITY)
    write_mask(folder / "SegmentationClass" / f"{name}.png", mask)
    labels = np.unique(mask)
    write_text(folder / "Annotations" / f"{name}.xml", _annotation(name, settings.side, labels))
    return name, pixel_digest(np.dstack([image, mask]))


def _annotation(name: str, side: int, labels: Sequence[int]) -> str:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = f"{name}.jpg"
    size = ElementTree.SubElement(root, "size")
    for key, value in (("width", side), ("height", side), ("depth", 3)):
        ElementTree.SubElement(size, key).text = str(value)
    for label in labels:
        if label not in (BACKGROUND, UNKNOWN):
            ElementTree.SubElement(ElementTree.SubElement(root, "object"), "name").text = CLASSES[label - 1]
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
