"""A sheet of a prepared data set's images with their saliency maps and masks.

python -m benchmarks.figures.contact_sheet DATASET PNG [--split val] [--saliency FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np

from getam.data.dataset import Split, open_dataset
from getam.data.images import read_image, read_mask
from getam.data.visualisation import draw_sheet, overlay_labels

_SIDE_BY_SIDE = 4  # images in one row


def pictures(split: Split, name: str, saliency: Path | None) -> list[np.ndarray]:
    image = read_image(split.image(name))
    size = image.shape[:2]
    shown = [image]
    if saliency:
        shown.append(np.repeat(read_mask(saliency / f"{name}.png", size)[..., None], 3, -1))
    if split.masks:
        shown.append(overlay_labels(image, read_mask(split.mask(name), size)))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="folder that `getam prepare` has written")
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("--split", default="val", help="(%(default)s)")
    parser.add_argument("--saliency", type=Path, help="folder that `getam saliency` has written")
    parser.add_argument("--rows", type=int, default=7, help="(%(default)s)")
    parser.add_argument("--height", type=int, default=96, help="of a picture, in pixels (%(default)s)")
    options = parser.parse_args()
    split = open_dataset(options.dataset).split(options.split)
    chosen = np.linspace(0, len(split) - 1, options.rows * _SIDE_BY_SIDE).astype(int)
    rows = []
    for numbers in chosen.reshape(options.rows, _SIDE_BY_SIDE):
        names = [split.ids[i] for i in numbers]
        shown = [picture for name in names for picture in pictures(split, name, options.saliency)]
        rows.append((" ".join(names), shown))
    titles = ["image"] + ["saliency"] * bool(options.saliency) + ["mask"] * bool(split.masks)
    draw_sheet(options.picture, titles * _SIDE_BY_SIDE, rows, options.height)


if __name__ == "__main__":
    main()
