"""Programs that call pydensecrf, with it and with getam_lattice: seconds, memory and labels, side by side in one run.

    python -m benchmarks.speed.crf_interface [--repeats 5]

The programs of benchmarks/speed/crf_scripts.py on scikit-image's photographs, on a grid, on other channels and on a
volume, one thread; "81 labels" and "2000 x 1500" are the program of `dcrf.py` on an enlarged photograph. The two take
turns. Seconds are of the processor, so that other work on the machine counts less.
Writes benchmarks/results/crf_interface-<device>.csv.
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from skimage import data

from benchmarks.measure import peak_memory, print_table, timings, write_results
from benchmarks.speed import crf_scripts
from getam.utils.hardware import device_name

THEIRS, OURS = "pydensecrf", "getam_lattice"


def modules(package: str) -> tuple:
    return importlib.import_module(f"{package}.densecrf"), importlib.import_module(f"{package}.utils")


def probabilities(labels: int, *shape: int) -> np.ndarray:
    """(labels, *shape): smooth over about 16 points, with noise."""
    generator = np.random.default_rng(0)
    scores = generator.standard_normal((labels, *(side // 16 + 1 for side in shape)), np.float32)
    for axis in range(1, len(shape) + 1):
        scores = scores.repeat(16, axis)
    scores = 2 * scores[(slice(None), *(slice(side) for side in shape))]
    scores += 0.5 * generator.standard_normal(scores.shape, np.float32)
    exponentials = np.exp(scores - scores.max(0))
    return exponentials / exponentials.sum(0)


def photograph(width: int, height: int) -> np.ndarray:
    return cv2.resize(data.coffee(), (width, height), interpolation=cv2.INTER_AREA)


def segmentation(labels: int, width: int, height: int) -> tuple:
    return photograph(width, height), probabilities(labels, height, width)


def labelling(width: int, height: int) -> tuple:
    return photograph(width, height), probabilities(21, height, width).argmax(0)


def annotation(width: int, height: int) -> tuple:
    return photograph(width, height), probabilities(5, height, width).argmax(0)


def channels(width: int, height: int) -> tuple:
    values = np.random.default_rng(1).normal(0.5, 0.05, (4, height, width))
    values[:, height // 4 : height // 2, width // 4 : width // 2] += 0.3
    return values, probabilities(2, height, width)


def volume(*shape: int) -> tuple:
    return np.random.default_rng(2).normal(0.5, 0.1, shape), probabilities(4, *shape)


# Name -> the program and what it is given.
CASES: dict[str, tuple[Callable, Callable[[], tuple]]] = {
    "dcrf.py": (crf_scripts.segmentation_postprocessing, partial(segmentation, 21, 500, 375)),
    "IRN crf_inference": (crf_scripts.irn_inference, partial(segmentation, 21, 500, 375)),
    "IRN crf_inference_label": (crf_scripts.irn_inference_label, partial(labelling, 500, 375)),
    "RGB with annotations, step by step": (crf_scripts.annotated_image, partial(annotation, 320, 240)),
    "2-D without an image": (crf_scripts.two_dimensions, partial(probabilities, 2, 400, 512)),
    "four channels": (crf_scripts.other_channels, partial(channels, 320, 240)),
    "volume": (crf_scripts.volume, partial(volume, 32, 64, 64)),
    "81 labels": (crf_scripts.segmentation_postprocessing, partial(segmentation, 81, 500, 375)),
    "2000 x 1500": (crf_scripts.segmentation_postprocessing, partial(segmentation, 21, 2000, 1500)),
}


def prepare(case: str, package: str) -> Callable[[], object]:
    program, inputs = CASES[case]
    arguments = inputs()
    return partial(program, *modules(package), *(arguments if isinstance(arguments, tuple) else (arguments,)))


def labels_of(result) -> np.ndarray:
    result = result[0] if isinstance(result, tuple) else result
    return result if np.issubdtype(result.dtype, np.integer) else result.argmax(0)


def measure(case: str, repeats: int) -> list[dict]:
    """A row for each package."""
    calls = {package: prepare(case, package) for package in (THEIRS, OURS)}
    seconds: dict[str, list[float]] = {package: [] for package in calls}
    labels = {}
    for _ in range(repeats):
        for package, call in calls.items():
            start = time.process_time()
            result = call()
            seconds[package].append(time.process_time() - start)
            labels[package] = labels_of(result)
    medians = {package: statistics.median(times) for package, times in seconds.items()}
    print(case, medians, flush=True)
    return [
        {
            "program": case,
            "package": package,
            "repeats": repeats,
            **timings(seconds[package]),
            "times faster": f"{medians[THEIRS] / medians[package]:.1f}",
            "equal labels": f"{(labels[package] == labels[THEIRS]).mean():.6f}",
            "peak MiB": f"{peak_memory('cpu', prepare, case, package):.0f}",
        }
        for package in calls
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rows = []
    for case in CASES:
        rows += measure(case, repeats if case != "2000 x 1500" else 1)
    device = device_name("cpu")
    rows = [{"device": device} | row for row in rows]
    path = write_results("crf_interface", device, rows)
    print_table(rows)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
