"""Maps in bfloat16 beside those in float32: the same network, the same photographs, the class it finds most probable.

    python -m benchmarks.studies.precision PHOTOGRAPHS --weights vit_tiny_patch16_224.safetensors

The correlation over the patches, and the overlap (intersection over union) of the highest tenth of the patches. Writes
benchmarks/results/precision-maps.csv: a row for each method, with means and the worst photograph.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import RESULTS, print_table, write_table
from getam import activation_maps, normalise_images
from getam.data.images import read_image
from getam.models.runtime import autocast
from getam.models.weights import read_state_dict

_METHODS = ("getam", "attention_gradient", "grad_cam")


def compare(network: torch.nn.Module, image: np.ndarray, method: str) -> tuple[float, float]:
    """Correlation, and overlap of the highest tenths, of an image's two maps."""
    side = network.patch_embed.img_size[0]
    images = normalise_images(torch.from_numpy(cv2.resize(image, (side, side))).permute(2, 0, 1)[None])
    with torch.no_grad():
        labels = torch.nn.functional.one_hot(network(images).argmax(1), network.num_classes)
    maps = []
    for precision in ("float32", "bfloat16"):
        with autocast(torch.device("cpu"), precision):
            found = activation_maps(network, images, labels, method, start_layer=len(network.blocks) // 2)
        maps.append(found[0, labels[0].argmax()].flatten().double())
    tops = [_top(values) for values in maps]
    overlap = (tops[0] & tops[1]).sum() / (tops[0] | tops[1]).sum()
    return float(torch.corrcoef(torch.stack(maps))[0, 1]), float(overlap)


def _top(values: Tensor) -> Tensor:
    top = torch.zeros_like(values, dtype=torch.bool)
    top[values.topk(len(values) // 10).indices] = True
    return top


def main() -> None:
    """Compares and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path, help="a folder of .jpg")
    parser.add_argument("--model", default="vit_tiny_patch16_224", help="of timm")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--most", type=int, default=100, help="photographs")
    options = parser.parse_args()
    import timm  # after getam, beside whose CPU-only torch it can be imported

    network = timm.create_model(options.model)
    network.load_state_dict(read_state_dict(options.weights))
    network.eval()
    paths = sorted(options.photographs.glob("*.jpg"))[: options.most]
    rows = []
    for method in _METHODS:
        found = np.array([compare(network, read_image(path), method) for path in paths])
        means, worst = found.mean(0), found.min(0)
        row = {"model": options.model, "method": method, "photographs": len(paths)}
        row |= {"correlation": f"{means[0]:.4f}", "worst": f"{worst[0]:.4f}"}
        rows.append({**row, "overlap of the top tenth": f"{means[1]:.3f}", "worst overlap": f"{worst[1]:.3f}"})
    print_table(rows)
    write_table(RESULTS / "precision-maps.csv", rows)


if __name__ == "__main__":
    main()
