"""Pictures of activation maps and labels over images, and sheets of them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from getam.constants import BACKGROUND, UNKNOWN
from getam.data.images import palette

# From 0 to 1 in equal steps.
_HEAT = np.array([(0, 0, 64), (40, 30, 200), (0, 160, 220), (60, 200, 90), (250, 220, 40), (220, 30, 20)])
_GAP, _TITLE = 6, 18


def overlay_map(image_rgb: np.ndarray, activation: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): a map (H, W) in 0..1 as a heat map over the image in grey."""
    position = np.clip(activation, 0, 1) * (len(_HEAT) - 1)
    colours = np.stack([np.interp(position, range(len(_HEAT)), _HEAT[:, channel]) for channel in range(3)], -1)
    grey = image_rgb.mean(2, keepdims=True)
    return (0.6 * colours + 0.4 * grey).astype(np.uint8)


def overlay_labels(image_rgb: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels (H, W) in VOC's colours over an image; background is darkened, unknown (255) is white."""
    colours = palette()[labels].astype(float)
    colours[labels == UNKNOWN] = 255
    return (0.75 * colours + 0.25 * image_rgb).astype(np.uint8)


def label_colours(classes: Sequence[str], labels: Iterable[int]) -> list[tuple[str, tuple[int, int, int]]]:
    """The legend of `overlay_labels`: name and colour of some labels; classes: of the labels 1..C."""
    names = {**dict(enumerate(classes, 1)), UNKNOWN: "unknown"}
    colours = palette()
    return [
        (names[label], (255, 255, 255) if label == UNKNOWN else tuple(colours[label].tolist()))
        for label in sorted(labels)
        if label != BACKGROUND
    ]


def draw_sheet(
    path: Path,
    columns: list[str],
    rows: list[tuple[str, list[np.ndarray]]],
    height: int = 160,
    legend: Sequence[tuple[str, tuple[int, int, int]]] = (),
) -> None:
    """Writes a PNG: a title over each column; each row is a caption and its pictures, scaled to one height.

    legend: names and their colours, below the last row.
    """
    font = ImageFont.load_default(12)
    tiles = [(caption, [_scaled(picture, height) for picture in pictures]) for caption, pictures in rows]
    widths = [max(pictures[i].width for _, pictures in tiles) for i in range(len(columns))]
    size = sum(widths) + _GAP * (len(columns) + 1), _TITLE + len(tiles) * (height + _TITLE + _GAP) + _GAP
    places = list(_legend_places([font.getlength(name) for name, _ in legend], size[0]))
    bottom, lines = size[1], places[-1][1] + 1 if places else 0
    sheet = Image.new("RGB", (size[0], bottom + lines * _TITLE), "white")
    draw = ImageDraw.Draw(sheet)
    for (left, line), (name, colour) in zip(places, legend, strict=True):
        top = bottom + line * _TITLE
        draw.rectangle((left, top + 2, left + 12, top + 14), colour, "black")
        draw.text((left + 18, top), name, "black", font)
    lefts = [_GAP + sum(widths[:i]) + i * _GAP for i in range(len(columns))]
    for left, title in zip(lefts, columns, strict=True):
        draw.text((left, 2), title, "black", font)
    for number, (caption, pictures) in enumerate(tiles):
        top = _TITLE + _GAP + number * (height + _TITLE + _GAP)
        for left, picture in zip(lefts, pictures, strict=True):
            sheet.paste(picture, (left, top))
        draw.text((_GAP, top + height + 1), caption, "dimgray", font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _legend_places(widths: list[float], width: int) -> Iterator[tuple[int, int]]:
    """Left edge and line of each name, where its square and gaps take 36 pixels."""
    left, line = _GAP, 0
    for name in widths:
        if left > _GAP and left + name + 36 > width:
            left, line = _GAP, line + 1
        yield left, line
        left += round(name) + 36


def _scaled(picture: np.ndarray, height: int) -> Image.Image:
    image = Image.fromarray(picture)
    return image.resize((round(image.width * height / image.height), height), Image.Resampling.LANCZOS)
