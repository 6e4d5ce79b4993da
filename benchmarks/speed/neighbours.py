"""Joint steps of the demo's network on all cores, alone and beside a busy process, with threads that spin or sleep.

    python -m benchmarks.speed.neighbours [--steps 10] [--rounds 2]

Threads that wait for each other spin by default. The `getam` command lets them sleep after a short time
(`getam.cli.command`). Each way is measured in a process of its own, in turn. Writes
benchmarks/results/neighbours-<device>.csv.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.measure import print_table, timings, write_results
from benchmarks.speed.crf_threads import busy_processors
from getam import build_model, load_experiment
from getam.cli.command import _BARRIERS
from getam.training.phases import Batch, JointPhase, network_input
from getam.utils.hardware import device_name
from getam.utils.parallel import available_cores

_SIDE, _BATCH, _CLASSES = 64, 16, 5


def step_times(steps: int) -> list[float]:
    """Seconds of each joint step, forward and backward, after a first one."""
    experiment = load_experiment(
        {
            "name": "neighbours",
            "data": {"dataset": "none", "saliency": None},
            "network": {"backbone": "vit_micro_hybrid", "pretrained": False, "decoder_width": 32},
            "training": {"crop": _SIDE, "batch": _BATCH},
        }
    )
    torch.manual_seed(0)
    network = build_model(num_classes=_CLASSES, pretrained=False, **experiment.network_arguments()).train()
    labels = torch.zeros(_BATCH, _CLASSES)
    labels[:, 0] = labels[::2, 2] = 1
    coarse = torch.rand(_BATCH, 3, 4, 4)
    images = torch.nn.functional.interpolate(coarse, (_SIDE, _SIDE), mode="bicubic").clamp(0, 1)
    loaded = {
        "image_rgb": images.mul(255).to(torch.uint8),
        "saliency": (images.mean(1) > 0.5).to(torch.uint8),
        "valid": torch.ones(_BATCH, _SIDE, _SIDE, dtype=torch.bool),
        "labels": labels,
    }
    batch, phase = Batch.on(torch.device("cpu"), loaded), JointPhase(network, experiment)
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        phase(network_input(batch, experiment.training), batch).total.backward()
        seconds.append(time.perf_counter() - start)
        network.zero_grad()
    return seconds[1:]


def measure(sleeping: bool, neighbours: int, steps: int) -> float:
    """The median of a process's steps."""
    environment = {key: value for key, value in os.environ.items() if key not in _BARRIERS}
    command = [sys.executable, "-m", "benchmarks.speed.neighbours", "--one", "--steps", str(steps)]
    with busy_processors(neighbours):
        done = subprocess.run(
            command, env=environment | (_BARRIERS if sleeping else {}), capture_output=True, text=True, check=True
        )
    return float(done.stdout)


def main() -> None:
    """Measures every way in turn and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", action="store_true", help="print the median of this process")
    options = parser.parse_args()
    if options.one:
        print(statistics.median(step_times(options.steps)))
        return
    ways = [(sleeping, neighbours) for neighbours in (0, 1) for sleeping in (False, True)]
    found = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            found[way].append(measure(*way, options.steps))
    alone = {sleeping: statistics.median(found[sleeping, 0]) for sleeping in (False, True)}
    rows = [
        {
            "waiting threads": "sleep" if sleeping else "spin",
            "busy neighbours": neighbours,
            **timings(found[sleeping, neighbours]),
            "times alone": f"{statistics.median(found[sleeping, neighbours]) / alone[sleeping]:.1f}",
            "cores": available_cores(),
        }
        for sleeping, neighbours in ways
    ]
    print_table(rows)
    print(write_results("neighbours", device_name("cpu"), rows))


if __name__ == "__main__":
    main()
