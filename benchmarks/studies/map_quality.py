"""How well the raw maps of each activation method mark the objects, from a classifier trained on image labels.

    python -m benchmarks.studies.map_quality DATASET --weights FILE    photographs: vit_tiny with ImageNet weights
    python -m benchmarks.studies.map_quality DATASET                   shapes: a small network from scratch

DATASET is a folder of `getam prepare`. The classifier sees image labels alone. Then, on images it has not seen and
with their classes known, each method's maps are upsampled, divided by their maximum and cut at every threshold of a
grid; a pixel gets the class with the largest map above it. The score is the mIoU at the best threshold. The truth
chooses it, so the numbers compare methods only.

Writes a table (--table) and a sheet of image, map, refined map, pseudo label and truth (--sheet).
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_model
from torch import Tensor

from benchmarks.measure import print_table, write_table
from getam import (
    SegmentationNetwork,
    activation_maps,
    build_model,
    classification_loss,
    complete_labels,
    load_recipe,
    normalise_images,
    normalise_maps,
    refine_maps,
)
from getam.config.choices import METHODS
from getam.data.dataset import DataSet, Split, open_dataset
from getam.data.images import read_image, read_mask
from getam.data.visualisation import draw_sheet, overlay_labels, overlay_map
from getam.evaluation.map_scores import ThresholdedConfusion
from getam.utils.hardware import device_name

BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


@dataclass
class Images:
    """images_rgb uint8 (M, 3, H, W), image labels (M, C), and masks uint8 (M, H, W) where there are any."""

    images_rgb: Tensor
    labels: Tensor
    masks: Tensor | None
    names: list[str]


def read(split: Split, side: int) -> Images:
    """A split, everything resized to a square; masks by nearest, where the split has them."""
    size = (side, side)
    photographs = (Image.fromarray(read_image(split.image(name))).resize(size, BILINEAR) for name in split.ids)
    masks = None
    if split.masks is not None:
        masks = _stacked(Image.fromarray(read_mask(split.mask(name))).resize(size, NEAREST) for name in split.ids)
    return Images(_stacked(photographs).permute(0, 3, 1, 2), torch.from_numpy(split.labels), masks, list(split.ids))


def _stacked(images) -> Tensor:
    return torch.from_numpy(np.stack([np.array(image) for image in images]))


def train(network: SegmentationNetwork, data: Images, epochs: int, batch: int, rate: float) -> None:
    """AdamW on the classification loss, with flips, a warm-up over the first tenth and a cosine to zero."""
    steps = epochs * (len(data.labels) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1, 10 * (step + 1) / steps) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    network.train()
    start, step = time.perf_counter(), 0
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(data.labels)).split(batch)[: len(data.labels) // batch]:
            images = normalise_images(data.images_rgb[chosen])
            images = torch.where(torch.rand(len(chosen), 1, 1, 1) < 0.5, images.flip(3), images)
            loss = classification_loss(network.classify(images), data.labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total, step = total + loss.item(), step + 1
        spent = time.perf_counter() - start
        print(f"epoch {epoch + 1}/{epochs}: loss {total * batch / len(data.labels):.4f}, {spent:.0f} s", flush=True)
    network.eval()


def average_precision(network: SegmentationNetwork, data: Images) -> float:
    """Mean over the classes of the area under the precision-recall curve, in steps at each positive."""
    with torch.no_grad():
        scores = torch.cat([network.classify(normalise_images(part)) for part in data.images_rgb.split(32)])
    values = []
    for score, truth in zip(scores.T, data.labels.T, strict=True):
        hits = truth[score.argsort(descending=True)]
        if hits.any():
            precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
            values.append(float(precision[hits > 0].mean()))
    return sum(values) / len(values)


def best_score(network: SegmentationNetwork, data: Images, method: str) -> tuple[float, float]:
    """The best mIoU over the thresholds, and the threshold."""
    confusion = ThresholdedConfusion(data.labels.shape[1])
    for start in range(0, len(data.labels), 16):
        part = slice(start, start + 16)
        maps = activation_maps(network, normalise_images(data.images_rgb[part]), data.labels[part], method)
        maps = F.interpolate(maps, size=data.masks.shape[1:], mode="bilinear", align_corners=True)
        # Without the 1e-5 that `normalise_maps` adds: it would put methods with small maps at a disadvantage.
        maps = maps / maps.amax((2, 3), keepdim=True).clamp_min(1e-30)
        for truth, of_image in zip(data.masks[part], maps, strict=True):
            confusion.update(truth.numpy(), of_image.numpy())
    scores = [matrix.miou() for matrix in confusion.matrices()]
    best = int(np.argmax(scores))
    return scores[best], float(confusion.thresholds[best])


def sheet_rows(network: SegmentationNetwork, data: Images, chosen: list[int], classes: Sequence[str]) -> list:
    """For `draw_sheet`: image, GETAM map, refined map, pseudo label (everything taken as salient), truth."""
    rows = []
    for i in chosen:
        image, labels = data.images_rgb[i : i + 1], data.labels[i : i + 1]
        maps = activation_maps(network, normalise_images(image), labels)
        refined = normalise_maps(refine_maps(maps, image))
        raw = F.interpolate(maps, size=image.shape[2:], mode="bilinear", align_corners=True)
        pixels, _ = complete_labels(refined, torch.ones_like(image[:, 0]), labels, load_recipe("released"))
        first = int(labels[0].argmax())
        rgb = image[0].permute(1, 2, 0).numpy()
        pictures = [
            rgb,
            overlay_map(rgb, (raw[0, first] / raw[0, first].max()).numpy()),
            overlay_map(rgb, refined[0, first].numpy()),
            overlay_labels(rgb, pixels[0].numpy()),
            overlay_labels(rgb, data.masks[i].numpy()),
        ]
        present = ", ".join(name for name, there in zip(classes, labels[0], strict=True) if there)
        rows.append((f"{data.names[i]}: {present}; maps of {classes[first]}", pictures))
    return rows


COLUMNS = ["image", "GETAM", "refined (PAMR)", "pseudo label, all salient", "truth"]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, help="CSV to write")
    parser.add_argument("--sheet", type=Path, help="PNG to write")
    parser.add_argument("--weights-out", type=Path, help="safetensors to write the trained network to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("dataset", type=Path, help="folder that `getam prepare` has written")
    parser.add_argument("--weights", type=Path, help="ImageNet weights of timm's vit_tiny_patch16_224, for vit_tiny")
    parser.add_argument("--training", default="train", help="split (%(default)s)")
    parser.add_argument("--held-out", default="val", help="split to score on (%(default)s)")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rate", type=float, help="AdamW's learning rate (3e-4 with weights, 1e-3 without)")
    parser.add_argument("--side", type=int, help="images are squares of this side (224 with weights, 64 without)")
    options = parser.parse_args()
    options.rate = options.rate or (3e-4 if options.weights else 1e-3)
    options.side = options.side or (224 if options.weights else 64)
    return options


def prepare(options: argparse.Namespace, dataset: DataSet) -> tuple[SegmentationNetwork, Images, Images]:
    """The network, trained on the first images; the second are held out."""
    held_out = read(dataset.split(options.held_out), options.side)
    if held_out.masks is None:
        raise SystemExit(f"split {options.held_out!r} of {options.dataset} has no masks to score on")
    training = read(dataset.split(options.training), options.side)
    if options.weights:
        network = build_model("vit_tiny", len(dataset.classes), pretrained=options.weights)
    else:
        network = build_model("vit_micro_hybrid", len(dataset.classes), classifier="class_token", decoder_width=32)
    train(network, training, options.epochs, batch=16 if options.weights else 50, rate=options.rate)
    return network, training, held_out


def main() -> None:
    options = arguments()
    torch.manual_seed(options.seed)
    dataset = open_dataset(options.dataset)
    network, training, held_out = prepare(options, dataset)
    if options.weights_out:
        save_model(network, str(options.weights_out))
    precision = average_precision(network, held_out)
    print(f"mean average precision of the classifier on {len(held_out.names)} images: {precision:.3f}")
    rows = []
    for method in METHODS:
        score, threshold = best_score(network, held_out, method)
        rows.append({"method": method, "best mIoU": f"{100 * score:.1f}", "threshold": f"{threshold:.3f}"})
    print_table(rows)
    if options.table:
        about = {
            "data set": dataset.name,
            "training images": len(training.names),
            "images": len(held_out.names),
            "side": options.side,
            "epochs": options.epochs,
            "rate": options.rate,
            "seed": options.seed,
            "mAP": f"{precision:.3f}",
            "device": device_name("cpu"),
        }
        write_table(options.table, [{**row, **about} for row in rows])
        print(f"written to {options.table}")
    if options.sheet:
        chosen = [int(i) for i in np.linspace(0, len(held_out.names) - 1, 8)]
        draw_sheet(options.sheet, COLUMNS, sheet_rows(network, held_out, chosen, dataset.classes))
        print(f"written to {options.sheet}")


if __name__ == "__main__":
    main()
