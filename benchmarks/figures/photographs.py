"""Draw docs/pictures/maps.png: the method at work on photographs that anyone may show.

    python -m benchmarks.figures.photographs RUN docs/pictures/maps.png

RUN was trained on photographs of VOC (config/voc6.yaml). The photographs are part of scikit-image: the astronaut Eileen
Collins (NASA, public domain) and Chelsea the cat (CC0, Stefan van der Walt). Map and pseudo label know the image's
class, as in training; the prediction does not.
"""

import argparse
from pathlib import Path

import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.filters import threshold_otsu

from getam import activation_maps, dense_crf, normalise_images, predict_probabilities
from getam.data.augmentation import centred_view
from getam.data.images import read_grey
from getam.data.saliency.background import background_saliency
from getam.data.visualisation import draw_sheet, overlay_labels, overlay_map
from getam.evaluation.run import Run
from getam.method.pseudo_labels import make_targets

PHOTOGRAPHS = {"astronaut": "person", "chelsea": "cat"}
COLUMNS = ["image", "saliency", "GETAM", "pseudo label", "prediction, without CRF", "prediction"]


def salient(image_rgb: np.ndarray, path: Path | None) -> np.ndarray:
    """Where a map is above the middle of its range, or by background detection; uint8 (H, W), 0 or 255."""
    if path is not None:
        return np.where(read_grey(path, image_rgb.shape[:2]) > 127, 255, 0).astype(np.uint8)
    found = background_saliency(image_rgb)
    return np.where(found > threshold_otsu(found), 255, 0).astype(np.uint8)


def row(run: Run, network: torch.nn.Module, image_rgb: np.ndarray, name: str, saliency: np.ndarray) -> list[np.ndarray]:
    """The pictures of `COLUMNS`."""
    classes, settings = run.dataset.classes, run.experiment
    labels = torch.zeros(1, len(classes))
    labels[0, classes.index(name)] = 1
    view = centred_view(image_rgb, saliency, settings.training.crop)
    image, marked, valid = (part[None] for part in view)
    maps = activation_maps(
        network,
        normalise_images(image) * valid[:, None],
        labels,
        settings.maps.method,
        settings.start_layer,
        settings.maps.fusion,
        settings.recipe.heads,
    )
    targets = make_targets(maps, image, marked, labels, valid, settings.maps, settings.recipe)

    def at_size(values: torch.Tensor, mode: str) -> np.ndarray:
        return F.interpolate(view.unpad(values)[None, None].float(), image_rgb.shape[:2], mode=mode)[0, 0].numpy()

    probabilities = predict_probabilities(network, image_rgb, settings.inference.sizes)
    refined = dense_crf(
        image_rgb, probabilities, settings.crf.iterations, settings.crf.gaussian, settings.crf.bilateral
    )
    return [
        image_rgb,
        np.repeat(saliency[..., None], 3, -1),
        overlay_map(image_rgb, at_size(targets.maps[0].amax(0), "bilinear")),
        overlay_labels(image_rgb, at_size(targets.pixels[0], "nearest-exact").astype(np.uint8)),
        *(
            overlay_labels(image_rgb, np.asarray(found).argmax(0).astype(np.uint8))
            for found in (probabilities, refined)
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--saliency", type=Path, help="folder of <name>.png; default: background detection")
    arguments = parser.parse_args()
    run = Run(arguments.run)
    network = run.load_network(torch.device("cpu")).eval()
    rows = []
    for photograph, name in PHOTOGRAPHS.items():
        image = Image.fromarray(getattr(skimage.data, photograph)())
        image.thumbnail((450, 300))
        image_rgb = np.array(image)
        path = arguments.saliency and arguments.saliency / f"{photograph}.png"
        rows.append((f"{photograph}: {name}", row(run, network, image_rgb, name, salient(image_rgb, path))))
    draw_sheet(arguments.picture, COLUMNS, rows, height=130)


if __name__ == "__main__":
    main()
