"""The dense CRF against pydensecrf: seconds, memory and labels, side by side in one run.

    python -m benchmarks.speed.crf VOC2012 [--images 50] [--images-of-81 10] [--device cuda]

The first VOC val images of 500 x 375 or 375 x 500, 20 iterations with the test settings, one thread. Probabilities are
made from the masks: blurred (sigma 8 pixels), mixed with 5% of uniform, and the logarithms disturbed by standard normal
noise that is smooth over 8 pixels: no label is negligible everywhere at the start. With 81 labels the masks are the
same. The variants take turns on each image. Writes benchmarks/results/crf-<device>.csv.

pydensecrf      the package, which has one thread and keeps every label
every label     getam.dense_crf(..., negligible=0, threads=1)
default         getam.dense_crf(..., threads=1)
..., 2 threads  the same with two threads for the image
all, N threads  getam.dense_crf_batch of all images, default settings, per image
GPU             getam.dense_crf of tensors on the GPU
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from benchmarks.measure import peak_memory, print_table, timings, write_results
from getam import ConfusionMatrix, dense_crf, dense_crf_batch
from getam.data import voc
from getam.utils.hardware import device_name

SIZE = (500, 375)
REFERENCE = "pydensecrf"


def on_gpu(image: np.ndarray, probabilities: np.ndarray) -> torch.Tensor:
    return dense_crf(image, torch.from_numpy(probabilities).cuda()).cpu()


VARIANTS: dict[str, Callable[[np.ndarray, np.ndarray], torch.Tensor]] = {
    REFERENCE: partial(dense_crf, backend="pydensecrf"),
    "every label": partial(dense_crf, negligible=0, threads=1),
    "default": partial(dense_crf, threads=1),
    "every label, 2 threads": partial(dense_crf, negligible=0, threads=2),
    "default, 2 threads": partial(dense_crf, threads=2),
    "GPU": on_gpu,
}


def read_case(root: Path, name: str, labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """image (H, W, 3), probabilities (labels, H, W), mask (H, W) with 255 unknown."""
    image = np.asarray(Image.open(root / "JPEGImages" / f"{name}.jpg").convert("RGB"))
    mask = np.asarray(Image.open(root / "SegmentationClass" / f"{name}.png"))
    height, width = mask.shape
    known = np.where(mask == 255, 0, mask)
    blurred = np.stack([cv2.GaussianBlur(np.float32(known == c), (0, 0), 8) for c in range(labels)])
    generator = np.random.default_rng(int(name.replace("_", "")))
    coarse = generator.standard_normal((labels, height // 8 + 1, width // 8 + 1), np.float32)
    noise = np.stack([cv2.resize(plane, (width, height)) for plane in coarse])
    scores = torch.from_numpy(np.log(0.95 * blurred + 0.05 / labels) + noise)
    return image, scores.softmax(0).numpy(), mask


def names_of_size(root: Path, count: int) -> list[str]:
    """The first images of val with sides of 500 and 375."""
    names = []
    for name in voc.split_ids(root, "val"):
        with Image.open(root / "JPEGImages" / f"{name}.jpg") as image:
            if sorted(image.size) == sorted(SIZE):
                names.append(name)
        if len(names) == count:
            return names
    raise SystemExit(f"{root} has {len(names)} val images of {SIZE[0]} x {SIZE[1]}, not {count}")


def prepare(root: Path, name: str, labels: int, variant: str) -> Callable[[], torch.Tensor]:
    torch.set_num_threads(1)
    image, probabilities, _ = read_case(root, name, labels)
    return partial(VARIANTS[variant], image, probabilities)


def measure(root: Path, names: list[str], labels: int, variants: list[str]) -> list[dict]:
    """A row for each variant at one number of labels."""
    for variant in variants:  # the first call is not measured
        prepare(root, names[0], labels, variant)()
    seconds = {variant: [] for variant in variants}
    equal = {variant: [] for variant in variants}
    scores = {variant: ConfusionMatrix(labels) for variant in variants}
    differences = dict.fromkeys(variants, 0.0)
    for name in names:
        image, probabilities, mask = read_case(root, name, labels)
        reference = None
        for variant in variants:
            start = time.perf_counter()
            marginals = VARIANTS[variant](image, probabilities)
            seconds[variant].append(time.perf_counter() - start)
            reference = marginals if variant == REFERENCE else reference
            found = marginals.argmax(0)
            equal[variant].append(float((found == reference.argmax(0)).double().mean()))
            differences[variant] = max(differences[variant], float((marginals - reference).abs().max()))
            scores[variant].update(mask, found)
        print(f"{labels} labels, {name}: " + ", ".join(f"{v} {s[-1]:.3f}" for v, s in seconds.items()), flush=True)
    memory_of = {variant: "cuda" if variant == "GPU" else "cpu" for variant in variants}
    return [
        {
            "labels": labels,
            "images": len(names),
            "variant": variant,
            **timings(seconds[variant]),
            "times faster than pydensecrf": spread(seconds[REFERENCE], seconds[variant]),
            "equal labels": f"{statistics.mean(equal[variant]):.6f}",
            "fewest in an image": f"{min(equal[variant]):.6f}",
            "largest difference": f"{differences[variant]:.1e}",
            "mIoU": f"{100 * scores[variant].miou():.3f}",
            "peak MiB": f"{peak_memory(memory_of[variant], prepare, root, names[0], labels, variant):.0f}",
        }
        for variant in variants
    ]


def spread(slower: list[float], faster: list[float]) -> str:
    """Median, smallest and largest of the ratios image by image."""
    ratios = [a / b for a, b in zip(slower, faster, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def measure_batch(root: Path, names: list[str], threads: list[int]) -> list[dict]:
    """All images at once with each number of threads: seconds per image."""
    images, probabilities, _ = zip(*(read_case(root, name, 21) for name in names), strict=True)
    seconds = {count: [] for count in threads}
    for _ in range(3):
        for count in threads:
            start = time.perf_counter()
            dense_crf_batch(images, probabilities, threads=count)
            seconds[count].append((time.perf_counter() - start) / len(names))
    medians = {count: statistics.median(times) for count, times in seconds.items()}
    return [
        {
            "labels": 21,
            "images": len(names),
            "variant": f"all, {count} threads",
            **timings(seconds[count]),
            "times faster than one thread": f"{medians[threads[0]] / medians[count]:.2f}",
        }
        for count in threads
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="the folder VOC2012")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--images-of-81", type=int, default=10)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    cores = torch.get_num_threads()
    device = device_name("cpu") + (f" and {device_name('cuda')}" if arguments.device == "cuda" else "")
    torch.set_num_threads(1)
    names = names_of_size(arguments.root, arguments.images)
    variants = [variant for variant in VARIANTS if variant != "GPU" or arguments.device == "cuda"]
    rows = measure(arguments.root, names, 21, variants)
    rows += measure(arguments.root, names[: arguments.images_of_81], 81, variants)
    rows += measure_batch(arguments.root, names, sorted({1, cores}))
    columns = list(dict.fromkeys(column for row in rows for column in row))
    rows = [{"device": device, "torch": torch.__version__} | {c: row.get(c, "") for c in columns} for row in rows]
    path = write_results("crf", device, rows)
    print_table(rows)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
