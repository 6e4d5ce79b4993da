"""How well the raw maps of each activation method mark the objects, from a classifier trained on image labels.

    python -m benchmarks.map_quality voc VOC2012 WEIGHTS     500 or more photographs, vit_tiny with ImageNet weights
    python -m benchmarks.map_quality drawn                   shapes drawn on the spot, a small network from scratch

The classifier sees image labels alone. Then, on images it has not seen and with their classes known, each method's maps
are upsampled, divided by their maximum and cut at every threshold of a grid; a pixel goes to the class with the largest
map above it. The score is the mIoU at the best threshold, which the truth has chosen: a comparison of methods, and no
result.

Writes a table (--table) and a sheet of image, map, refined map, pseudo label and truth (--sheet).
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_model
from torch import Tensor

from benchmarks.measure import device_name, print_table, write_table
from benchmarks.sheet import draw_sheet, heat, painted
from getam import (
    ConfusionMatrix,
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
from getam.activation import METHODS
from getam.datasets import voc

SHAPES = ("circle", "rectangle", "triangle")
THRESHOLDS = np.geomspace(0.005, 0.9, 40)  # maps that are products of small numbers have their best cut low


@dataclass
class Images:
    """images_rgb uint8 (M, 3, H, W), image labels (M, C), and masks uint8 (M, H, W) where there are any."""

    images_rgb: Tensor
    labels: Tensor
    masks: Tensor | None
    names: list[str]


def read_voc(root: Path, split: str, side: int) -> Images:
    """A VOC split, everything resized to a square; masks by nearest, where the split has them."""
    ids = voc.split_ids(root, split)
    photographs = [Image.open(root / "JPEGImages" / f"{name}.jpg").convert("RGB") for name in ids]
    paths = [root / "SegmentationClass" / f"{name}.png" for name in ids]
    masks = None
    if all(path.is_file() for path in paths):
        masks = _stacked(Image.open(path).resize((side, side), Image.Resampling.NEAREST) for path in paths)
    return Images(
        _stacked(image.resize((side, side), Image.Resampling.BILINEAR) for image in photographs).permute(0, 3, 1, 2),
        torch.from_numpy(np.stack([voc.image_labels(root / "Annotations" / f"{name}.xml") for name in ids])),
        masks,
        ids,
    )


def _stacked(images) -> Tensor:
    return torch.from_numpy(np.stack([np.array(image) for image in images]))


def draw_shapes(count: int, side: int, seed: int) -> Images:
    """Up to three shapes of random colours on a random wash of colour, by scikit-image: the class is the outline."""
    from skimage.draw import random_shapes

    rng = np.random.default_rng(seed)
    images = np.empty((count, side, side, 3), np.uint8)
    labels, masks = np.zeros((count, 3), np.float32), np.zeros((count, side, side), np.uint8)
    for i in range(count):
        wash = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        canvas = np.array(wash).astype(float)
        for _ in range(rng.integers(1, 4)):
            kind = int(rng.integers(3))
            stencil, _ = random_shapes(
                (side, side), 1, min_size=side // 4, max_size=side // 2, shape=SHAPES[kind], num_channels=1, rng=rng
            )
            inside = stencil[..., 0] < 255
            canvas[inside] = rng.integers(0, 256, 3)
            masks[i][inside] = kind + 1
        canvas += rng.normal(0, 12, canvas.shape)
        images[i] = np.clip(canvas, 0, 255)
        labels[i, np.unique(masks[i])[1:] - 1] = 1
    return Images(
        torch.from_numpy(images).permute(0, 3, 1, 2),
        torch.from_numpy(labels),
        torch.from_numpy(masks),
        [f"drawn {i}" for i in range(count)],
    )


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
    matrices = [ConfusionMatrix(data.labels.shape[1] + 1) for _ in THRESHOLDS]
    for start in range(0, len(data.labels), 16):
        part = slice(start, start + 16)
        maps = activation_maps(network, normalise_images(data.images_rgb[part]), data.labels[part], method)
        maps = F.interpolate(maps, size=data.masks.shape[1:], mode="bilinear", align_corners=True)
        # Without the pipeline's 1e-5 in the divisor: methods whose maps are small are not to lose by it.
        value, category = (maps / maps.amax((2, 3), keepdim=True).clamp_min(1e-30)).max(1)
        for threshold, matrix in zip(THRESHOLDS, matrices, strict=True):
            matrix.update(data.masks[part], torch.where(value > threshold, category + 1, 0))
    scores = [matrix.miou() for matrix in matrices]
    best = int(np.argmax(scores))
    return scores[best], float(THRESHOLDS[best])


def sheet_rows(network: SegmentationNetwork, data: Images, chosen: list[int], classes: list[str]) -> list:
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
            heat(rgb, (raw[0, first] / raw[0, first].max()).numpy()),
            heat(rgb, refined[0, first].numpy()),
            painted(rgb, pixels[0].numpy()),
            painted(rgb, data.masks[i].numpy()),
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
    sources = parser.add_subparsers(dest="source", required=True)
    photographs = sources.add_parser("voc")
    photographs.add_argument("root", type=Path, help="the folder VOC2012")
    photographs.add_argument("weights", type=Path, help="ImageNet weights of timm's vit_tiny_patch16_224")
    photographs.add_argument("--training", default="train_aug", help="list in ImageSets/Segmentation (%(default)s)")
    photographs.add_argument("--held-out", default="val", help="list to score on (%(default)s)")
    drawn = sources.add_parser("drawn")
    for source, side, rate in ((photographs, 224, 3e-4), (drawn, 64, 1e-3)):
        source.add_argument("--epochs", type=int, default=8)
        source.add_argument("--rate", type=float, default=rate, help="AdamW's learning rate (%(default)s)")
        source.add_argument("--side", type=int, default=side, help="images are squares of this side (%(default)s)")
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> tuple[SegmentationNetwork, Images, Images]:
    """The network, trained on the first images; the second are held out."""
    if options.source == "voc":
        held_out = read_voc(options.root, options.held_out, options.side)
        if held_out.masks is None:
            raise SystemExit(f"{options.root}/SegmentationClass lacks masks of {options.held_out}")
        training = read_voc(options.root, options.training, options.side)
        network = build_model("vit_tiny", len(voc.CLASSES), pretrained=options.weights)
    else:
        training, held_out = draw_shapes(2000, options.side, 1), draw_shapes(200, options.side, 2)
        network = build_model("vit_micro_hybrid", len(SHAPES), classifier="class_token", decoder_width=32)
    train(network, training, options.epochs, batch=16 if options.source == "voc" else 50, rate=options.rate)
    return network, training, held_out


def main() -> None:
    options = arguments()
    torch.manual_seed(options.seed)
    network, training, held_out = prepare(options)
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
            "source": options.source,
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
        classes = voc.CLASSES if options.source == "voc" else SHAPES
        draw_sheet(options.sheet, COLUMNS, sheet_rows(network, held_out, chosen, classes))
        print(f"written to {options.sheet}")


if __name__ == "__main__":
    main()
