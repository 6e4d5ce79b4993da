"""Training views per second and worker, compared with the loop that is usual in code for this task.

    python -m benchmarks.speed.loading DATASET [--split train_aug] [--crop 256]

The usual loop converts the resized image to floats, normalises, flips and pads it in numpy, and returns the network's
input and, for steps that need colours, the image recovered from it. Ours stays in uint8; the device normalises. Both
read the same photographs, treat every pixel as salient, and run in the same DataLoader, in turns.
"""

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import print_table, timings, write_results
from getam.data.dataset import Split, open_dataset
from getam.data.loading import EpochBatches, TrainingImages, training_batches
from getam.utils.hardware import device_name

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 4


class UsualImages(Dataset):
    """The usual way, in floats."""

    def __init__(self, split: Split, crop: int):
        self._split, self._crop = split, crop

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, i: int) -> dict[str, object]:
        name, crop = self._split.ids[i], self._crop
        image = Image.open(self._split.image(name)).convert("RGB")
        saliency = Image.new("L", image.size, 255)
        long_side = random.randint(int(0.9 * crop), int(crop / 0.875))
        scale = long_side / max(image.size)
        size = round(image.width * scale), round(image.height * scale)
        values = np.asarray(image.resize(size, Image.Resampling.BILINEAR)) / 255.0
        marked = np.asarray(saliency.resize(size, Image.Resampling.NEAREST)) / 255.0
        values = (values - MEAN) / STD
        if random.random() < 0.5:
            values, marked = np.fliplr(values), np.fliplr(marked)
        height, width = marked.shape
        image_box, crop_box = zip(*(self._overlap(length, crop) for length in (height, width)), strict=True)
        network_input, target = np.zeros((crop, crop, 3), np.float32), np.zeros((crop, crop), np.float32)
        valid = np.zeros((crop, crop), np.float32)
        network_input[crop_box], target[crop_box], valid[crop_box] = values[image_box], marked[image_box], 1
        image_rgb = (network_input * STD + MEAN) * 255
        return {
            "id": name,
            "images": network_input.transpose(2, 0, 1).copy(),
            "image_rgb": image_rgb.transpose(2, 0, 1).astype(np.float32),
            "saliency": target,
            "valid": valid,
            "labels": self._split.labels[i],
        }

    @staticmethod
    def _overlap(length: int, crop: int) -> tuple[slice, slice]:
        if length <= crop:
            start = random.randint(0, crop - length)
            return slice(0, length), slice(start, start + length)
        start = random.randint(0, length - crop)
        return slice(start, start + crop), slice(0, crop)


def usual(split: Split, crop: int) -> DataLoader:
    return DataLoader(UsualImages(split, crop), BATCH, shuffle=True, drop_last=True, num_workers=1, prefetch_factor=4)


def ours(split: Split, crop: int) -> DataLoader:
    return training_batches(TrainingImages(split, None, crop), EpochBatches(len(split), BATCH, epochs=1), workers=1)


def seconds(batches: DataLoader, count: int) -> float:
    """Seconds for `count` batches after the first, which waits for the worker to start."""
    iterator = iter(batches)
    next(iterator)
    start = time.perf_counter()
    for _ in range(count):
        next(iterator)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="folder that `getam prepare` has written")
    parser.add_argument("--split", default="train_aug", help="(%(default)s)")
    parser.add_argument("--crop", type=int, default=256, help="side of the views (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    split = open_dataset(options.dataset).split(options.split)
    count = min(100, len(split) // BATCH - 1)
    spent = {usual: [], ours: []}
    for _ in range(options.rounds):
        for way, times in spent.items():
            times.append(seconds(way(split, options.crop), count))
    rates = {way: count * BATCH / float(np.median(times)) for way, times in spent.items()}
    rows = [
        {
            "way": name,
            "crop": options.crop,
            "images per second and worker": f"{rates[way]:.0f}",
            "times as fast": f"{rates[way] / rates[usual]:.1f}",
            **timings(spent[way]),
            "images": count * BATCH,
            "device": device_name("cpu"),
        }
        for way, name in ((usual, "usual"), (ours, "getam.data.loading"))
    ]
    print_table(rows)
    print(f"written to {write_results('loading', device_name('cpu'), rows)}")


if __name__ == "__main__":
    main()
