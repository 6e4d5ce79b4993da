"""A few hundred small photographs with their instances, which the generated archives repeat."""

import io
from dataclasses import dataclass

import numpy as np
import scipy.io
import scipy.sparse
from PIL import Image, ImageDraw

from getam.constants import UNKNOWN
from getam.data.images import palette
from getam.data.voc import CLASSES

SIZE = (64, 48)  # width, height
_POINTS = 29  # of an outline: an annotation then has the length of COCO's


@dataclass(frozen=True)
class Template:
    """One photograph.

    Attributes:
        photograph: a JPEG file.
        instances: (label 1..C, outline float (N, 2) in pixels, as x and y) of each object, from back to front.
    """

    photograph: bytes
    instances: tuple[tuple[int, np.ndarray], ...]


def templates(number: int, classes: int, mean_instances: float, seed: int) -> list[Template]:
    """Photographs with 1 + Poisson(mean_instances - 1) objects, the same from the same seed."""
    generator = np.random.default_rng(seed)
    return [_template(generator, classes, 1 + int(generator.poisson(mean_instances - 1))) for _ in range(number)]


def _template(generator: np.random.Generator, classes: int, count: int) -> Template:
    width, height = SIZE
    coarse = Image.fromarray(generator.integers(0, 256, (3, 4, 3), np.uint8))
    picture = coarse.resize(SIZE, Image.Resampling.BICUBIC)
    instances = [(int(generator.integers(1, classes + 1)), _outline(generator)) for _ in range(count)]
    pen = ImageDraw.Draw(picture)
    for label, outline in instances:
        # The colour tells the class, as far as 64 colours can.
        pen.polygon(_pairs(outline), fill=(label % 4 * 80, label // 4 % 4 * 80, label // 16 % 4 * 80))
    noisy = np.asarray(picture) + generator.normal(0, 6, (height, width, 3))
    return Template(_bytes(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), "jpeg"), tuple(instances))


def _outline(generator: np.random.Generator) -> np.ndarray:
    """An irregular ellipse inside the photograph."""
    width, height = SIZE
    centre = generator.uniform(0.2, 0.8, 2) * SIZE
    radii = generator.uniform(4, 14, 2)
    angle = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
    directions = np.stack([np.cos(angle), np.sin(angle)], -1) * generator.uniform(0.7, 1, (_POINTS, 1))
    return np.clip(centre + radii * directions, 0, (width - 1, height - 1)).round(2)


def voc_mask(template: Template) -> np.ndarray:
    """uint8 (H, W): objects with an unknown rim, as VOC has them."""
    return _mask(template, UNKNOWN)


def voc_mask_file(template: Template) -> bytes:
    """A PNG file with VOC's palette."""
    mask = Image.fromarray(voc_mask(template))
    mask.putpalette(palette().tobytes())
    return _bytes(mask, "png")


def voc_annotation(template: Template, name: str) -> bytes:
    """An XML file of Annotations/."""
    width, height = SIZE
    objects = "".join(_voc_object(label, outline) for label, outline in template.instances)
    return (
        f"<annotation>\n\t<folder>VOC2012</folder>\n\t<filename>{name}.jpg</filename>\n\t<source>\n"
        "\t\t<database>The VOC2007 Database</database>\n\t\t<annotation>PASCAL VOC2007</annotation>\n"
        f"\t\t<image>flickr</image>\n\t</source>\n\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n"
        f"\t\t<depth>3</depth>\n\t</size>\n\t<segmented>1</segmented>\n{objects}</annotation>\n"
    ).encode()


def _voc_object(label: int, outline: np.ndarray) -> str:
    (left, top), (right, bottom) = outline.min(0).astype(int), outline.max(0).astype(int)
    return (
        f"\t<object>\n\t\t<name>{CLASSES[label - 1]}</name>\n\t\t<pose>Unspecified</pose>\n"
        "\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n\t\t<bndbox>\n"
        f"\t\t\t<xmin>{left}</xmin>\n\t\t\t<ymin>{top}</ymin>\n\t\t\t<xmax>{right}</xmax>\n"
        f"\t\t\t<ymax>{bottom}</ymax>\n\t\t</bndbox>\n\t</object>\n"
    )


def sbd_mask_file(template: Template) -> bytes:
    """A file of SBD's cls/: a struct with the mask, the labels in it, and a sparse boundary of each class."""
    mask = _mask(template)
    labels = np.setdiff1d(mask, 0)
    boundaries = np.empty((len(CLASSES), 1), object)
    for i in range(len(CLASSES)):
        inside = mask == i + 1
        edge = np.zeros_like(inside)
        edge[:, 1:] = inside[:, 1:] != inside[:, :-1]
        boundaries[i, 0] = scipy.sparse.csc_matrix(edge)
    content = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": labels[:, None]}
    file = io.BytesIO()
    scipy.io.savemat(file, {"GTcls": content}, do_compression=True)
    return file.getvalue()


def _mask(template: Template, rim: int | None = None) -> np.ndarray:
    mask = Image.new("L", SIZE)
    pen = ImageDraw.Draw(mask)
    for label, outline in template.instances:
        pen.polygon(_pairs(outline), fill=label, outline=rim)
    return np.array(mask)


def _pairs(outline: np.ndarray) -> list[tuple[float, float]]:
    return [tuple(point) for point in outline.tolist()]


def _bytes(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()
