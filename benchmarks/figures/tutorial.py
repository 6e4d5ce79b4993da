"""Draw the pictures of docs/tutorial.md from the files that the demo has left.

    python -m benchmarks.figures.tutorial results/demo resources docs/pictures/tutorial [--weights FILE]

--weights: timm's vit_tiny_patch16_224, for the picture of the photograph. It shows Chelsea the cat, which scikit-image
ships (CC0, Stefan van der Walt).
"""

import argparse
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from getam import explain
from getam.data.images import read_image, read_mask
from getam.data.visualisation import draw_sheet, label_colours, overlay_labels, overlay_map
from getam.evaluation.run import Run
from getam.models.weights import load_exactly, read_state_dict

IMAGES, HEIGHT = 6, 112
TABBY = 281  # ImageNet's "tabby cat"


def columns(run: Run, saliency: Path, name: str) -> dict[str, np.ndarray]:
    """Of one image: what each step of the demo makes of it."""
    split = run.dataset.split("test")
    image = read_image(split.image(name))
    present = np.flatnonzero(split.labels[split.ids.index(name)]).tolist()
    maps = explain(run.load_network("cpu"), image, present, size=64)
    activation = np.stack([value.numpy() for value in maps.values()]).max(0)
    folder = run.folder / "test"
    return {
        "image": image,
        "saliency": np.repeat(read_mask(saliency / f"{name}.png")[..., None], 3, -1),
        "GETAM": overlay_map(image, activation),
        "pseudo label": overlay_labels(image, read_mask(folder / "pseudo_labels" / f"{name}.png")),
        "without CRF": overlay_labels(image, read_mask(folder / "masks_without_crf" / f"{name}.png")),
        "prediction": overlay_labels(image, read_mask(folder / "masks" / f"{name}.png")),
        "truth": overlay_labels(image, read_mask(split.mask(name))),
    }


def draw(path: Path, shown: list[str], pictures: list[dict[str, np.ndarray]], legend=()) -> None:
    """A row for each kind of picture, a column for each image; in few colours, so that the file stays small."""
    rows = [(kind, [picture[kind] for picture in pictures]) for kind in shown]
    draw_sheet(path, [""] * len(pictures), rows, HEIGHT, legend)
    Image.open(path).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def photograph(weights: Path) -> np.ndarray:
    """Chelsea beside the GETAM map of a ViT-Tiny of ImageNet."""
    import timm  # after getam, which prepares the import

    network = timm.create_model("vit_tiny_patch16_224")
    load_exactly(network, read_state_dict(weights), str(weights))
    image = skimage.data.chelsea()
    return np.concatenate([image, overlay_map(image, explain(network.eval(), image, [TABBY])[TABBY].numpy())], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("resources", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    run = Run(options.results / "experiments" / "shapes")
    ids = run.dataset.split("test").ids
    chosen = [ids[int(i)] for i in np.linspace(0, len(ids) - 1, IMAGES)]
    pictures = [columns(run, options.resources / "saliency" / "shapes" / "border", name) for name in chosen]
    legend = label_colours(run.dataset.classes, [1, 2, 3, 4, 5, 255])
    draw(options.folder / "images.png", ["image"], pictures)
    draw(options.folder / "saliency.png", ["image", "saliency"], pictures)
    draw(options.folder / "labels.png", ["image", "GETAM", "pseudo label"], pictures, legend)
    draw(options.folder / "masks.png", ["image", "without CRF", "prediction", "truth"], pictures, legend)
    if options.weights:
        picture = Image.fromarray(photograph(options.weights))
        picture.thumbnail((640, 640))
        picture.save(options.folder / "photograph.jpg", quality=80)


if __name__ == "__main__":
    main()
