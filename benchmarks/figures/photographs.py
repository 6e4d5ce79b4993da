"""Draw docs/pictures/maps.png: the maps of five methods on photographs that anyone may show.

    python -m benchmarks.figures.photographs NETWORK docs/pictures/maps.png

NETWORK was trained on VOC and written by `python -m benchmarks.studies.map_quality ... --weights-out NETWORK`. The
photographs are part of scikit-image: the astronaut Eileen Collins (NASA, public domain) and Chelsea the cat (CC0,
Stefan van der Walt).
"""

import argparse
from pathlib import Path

import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_model

from getam import (
    activation_maps,
    build_model,
    complete_labels,
    load_recipe,
    normalise_images,
    normalise_maps,
    refine_maps,
)
from getam.data import voc
from getam.data.visualisation import draw_sheet, overlay_labels, overlay_map

PHOTOGRAPHS = {"astronaut": "person", "chelsea": "cat"}
SIDE = 224
COLUMNS = {
    "CAM": "cam",
    "Grad-CAM": "grad_cam",
    "rollout": "rollout",
    "attention x gradient": "attention_gradient",
    "GETAM": "getam",
}


def row(network: torch.nn.Module, image_rgb: np.ndarray, name: str) -> list[np.ndarray]:
    """The image, its map by each method, GETAM's refined, and the pseudo label with everything taken as salient."""
    labels = torch.zeros(1, len(voc.CLASSES))
    labels[0, voc.CLASSES.index(name)] = 1
    image = torch.from_numpy(image_rgb).permute(2, 0, 1)[None]
    square = F.interpolate(normalise_images(image), size=(SIDE, SIDE), mode="bilinear", antialias=True)
    pictures = [image_rgb]
    for method in COLUMNS.values():
        maps = activation_maps(network, square, labels, method)
        raw = F.interpolate(maps, size=image.shape[2:], mode="bilinear", align_corners=True)[0].sum(0)
        pictures.append(overlay_map(image_rgb, (raw / raw.max().clamp_min(1e-30)).numpy()))
    refined = normalise_maps(refine_maps(activation_maps(network, square, labels), image))
    pixels, _ = complete_labels(refined, torch.ones_like(image[:, 0]), labels, load_recipe("released"))
    return [*pictures, overlay_map(image_rgb, refined[0].sum(0).numpy()), overlay_labels(image_rgb, pixels[0].numpy())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    network = build_model("vit_tiny", len(voc.CLASSES)).eval()
    load_model(network, arguments.network)
    rows = []
    for photograph, name in PHOTOGRAPHS.items():
        image = Image.fromarray(getattr(skimage.data, photograph)())
        image.thumbnail((450, 300))
        rows.append((f"{photograph}: {name}", row(network, np.array(image), name)))
    columns = ["image", *COLUMNS, "GETAM, refined (PAMR)", "pseudo label, all salient"]
    draw_sheet(arguments.picture, columns, rows, height=110)


if __name__ == "__main__":
    main()
