"""GETAM maps, compared with the usual ways of computing them: seconds and memory in one run.

    python -m benchmarks.speed.activation [--device cuda] [--sizes 256 512] [--repeats 5]

Hybrid, batch 4, six (image, class) pairs, maps of the last six blocks. The variants take turns, so that a change of the
machine's load affects all of them. Writes benchmarks/results/activation-<device>.csv.

rows            getam.activation_maps: class-token rows, one backward per rank of class, no weight gradient
full matrices   unfused attention, gradients of whole attention matrices, one backward per pair, no weight gradient
with backward() the same by `backward()`: also every weight's gradient, as in code that takes them from hooks
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.measure import peak_memory, print_table, timings, write_results
from benchmarks.speed.naive import naive_maps
from getam import activation_maps, build_model
from getam.utils.hardware import device_name

PAIRS = [(0, 1), (0, 5), (1, 3), (1, 7), (2, 2), (3, 9)]
BATCH, CLASSES, START_LAYER = 4, 20, 6
BUDGET = 100  # seconds after which a variant is not repeated at this size
VARIANTS = {
    "rows": partial(activation_maps, start_layer=START_LAYER),
    "full matrices": partial(naive_maps, start_layer=START_LAYER),
    "with backward()": partial(naive_maps, start_layer=START_LAYER, weight_gradients=True),
}


def prepare(device: str, size: int, variant: str, bf16: bool) -> Callable[[], torch.Tensor]:
    """The call to measure, with network and inputs on the device; bf16: under autocast."""
    torch.manual_seed(0)
    network = build_model("vitb_hybrid", CLASSES).eval().to(device)
    images = torch.randn(BATCH, 3, size, size).to(device)
    labels = torch.zeros(BATCH, CLASSES)
    labels[tuple(zip(*PAIRS, strict=True))] = 1
    labels = labels.to(device)

    def call() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            return VARIANTS[variant](network, images, labels)

    return call


def timed(call: Callable[[], torch.Tensor], device: str) -> tuple[float, torch.Tensor]:
    """The wall time of a call in seconds, including the device's work, and its result."""
    start = time.perf_counter()
    result = call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def measure(device: str, size: int, bf16: bool, repeats: int) -> list[dict]:
    """A row for each variant at one image size."""
    calls = {variant: prepare(device, size, variant, bf16) for variant in VARIANTS}
    times, maps = {variant: [] for variant in VARIANTS}, {}
    for _ in range(repeats):
        for variant, call in calls.items():
            if sum(times[variant]) < BUDGET:
                duration, maps[variant] = timed(call, device)
                times[variant].append(duration)
    reference = prepare(device, size, "full matrices", bf16=False)() if bf16 else maps["full matrices"]
    difference = {variant: float((found - reference).abs().max() / reference.max()) for variant, found in maps.items()}
    del calls
    if not bf16 and difference["rows"] > 1e-5:
        raise SystemExit(f"the maps differ by {difference['rows']:.1e} of the maximum, more than 1e-5")
    medians = {variant: statistics.median(values) for variant, values in times.items()}
    return [
        {
            "size": size,
            "precision": "bf16" if bf16 else "float32",
            "variant": variant,
            **timings(times[variant]),
            "runs": len(times[variant]),
            "times as long": f"{medians[variant] / medians['rows']:.2f}",
            "peak MiB": f"{peak_memory(device, prepare, device, size, variant, bf16):.0f}",
            "difference": f"{difference[variant]:.1e}",
        }
        for variant in VARIANTS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    device = device_name(arguments.device)
    rows = []
    for size in arguments.sizes:
        for bf16 in (False, True) if arguments.device == "cuda" else (False,):
            measured = measure(arguments.device, size, bf16, arguments.repeats)
            rows += [{"device": device, "torch": torch.__version__, **row} for row in measured]
            path = write_results("activation", device, rows)
    print_table(rows)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
