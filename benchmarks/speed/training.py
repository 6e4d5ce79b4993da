"""A joint step of training, compared with its usual implementation.

    python -m benchmarks.speed.training [--device cuda] [--backbone vitb_hybrid] [--side 256] [--batch 4]
                                        [--precision tf32]

The usual implementation: one forward of the whole network with full attention matrices for the maps, one `backward()`
for each (image, class) pair, a second forward for the losses, and the bilateral filter on copies in the CPU's memory. A
faster variant computes the attention gradients alone. All three use this package's refinement, labels and losses on the
same images, and their losses are compared. Writes benchmarks/results/training-<device>.csv.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.measure import peak_memory, print_table, timings, write_results
from benchmarks.speed.naive import naive_maps
from getam import (
    DenseEnergyLoss,
    build_model,
    classification_loss,
    complete_labels,
    cross_entropy_loss,
    load_experiment,
    normalise_maps,
    refine_maps,
    saliency_loss,
    saliency_target,
)
from getam.config.experiment import Experiment
from getam.models.runtime import tf32_allowed
from getam.training.optimisation import make_optimiser
from getam.training.phases import Batch, JointPhase, prepare_for_speed
from getam.utils.hardware import device_name

CLASSES = 20
PAIRS = [(0, 1), (0, 5), (1, 3), (1, 7), (2, 2), (3, 9)]  # of every four images


def make_experiment(options: argparse.Namespace) -> Experiment:
    """The published settings on random weights."""
    return load_experiment(
        {
            "name": "benchmark",
            "data": {"dataset": "none", "saliency": None},
            "network": {"backbone": options.backbone, "pretrained": False, "decoder_width": options.decoder_width},
            "training": {"crop": options.side, "batch": options.batch, "precision": options.precision},
        }
    )


def make_batch(options: argparse.Namespace) -> Batch:
    """Random smooth images, half of whose pixels are salient."""
    torch.manual_seed(0)
    side, batch = options.side, options.batch
    coarse = torch.rand(batch, 3, side // 32, side // 32)
    images = nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1).mul(255).to(torch.uint8)
    saliency = (images.float().mean(1) > 127).to(torch.uint8)
    labels = torch.zeros(batch, CLASSES)
    for image, category in PAIRS:
        labels[image::4, category] = 1
    values = (images, saliency, torch.ones(batch, side, side, dtype=torch.bool), labels)
    return Batch(*(value.to(options.device) for value in values))


def prepare(options: argparse.Namespace, way: str) -> Callable[[], float]:
    """A function that runs one joint step and returns its loss."""
    experiment, batch = make_experiment(options), make_batch(options)
    torch.manual_seed(0)
    network = build_model(
        num_classes=CLASSES, pretrained=experiment.network.pretrained, **experiment.network_arguments()
    ).to(options.device)
    prepare_for_speed(network, experiment, torch.device(options.device))
    # Eval mode, so that one forward and two give the same losses; the work of a step is otherwise the same.
    network.eval()
    optimiser = make_optimiser(network, experiment.training, experiment.recipe)
    if way == "getam":
        losses = partial(_losses, JointPhase(network, experiment), batch)
    else:
        losses = partial(_naive_losses, network, experiment, batch, weight_gradients=way == "backward")

    def step() -> float:
        optimiser.zero_grad()
        total = losses()
        if way == "backward":
            optimiser.zero_grad()  # the backward() of the pairs has left gradients
        total.backward()
        optimiser.step()
        return total.item()

    return step


def _losses(phase: JointPhase, batch: Batch) -> Tensor:
    return phase(batch.network_input, batch).total


def _naive_losses(network: nn.Module, experiment: Experiment, batch: Batch, weight_gradients: bool) -> Tensor:
    images, images_rgb, recipe = batch.network_input, batch.image_rgb.float(), experiment.recipe
    with torch.autocast(images.device.type, torch.bfloat16, enabled=experiment.training.precision == "bfloat16"):
        maps = naive_maps(
            network,
            images,
            batch.labels,
            start_layer=experiment.start_layer,
            weight_gradients=weight_gradients,
            whole_forward=True,
        )
        class_logits, seg_logits = network(images)
    maps = normalise_maps(refine_maps(maps.detach(), images_rgb))
    pixels, mined = complete_labels(maps, batch.saliency, batch.labels, recipe, batch.valid)
    seg_logits = seg_logits.float()
    on_cpu = (values.cpu() for values in (images_rgb, seg_logits.softmax(1), batch.valid, pixels))
    return (
        classification_loss(class_logits, batch.labels)
        + cross_entropy_loss(seg_logits, pixels)
        + saliency_loss(seg_logits, saliency_target(batch.saliency, mined, recipe))
        + DenseEnergyLoss()(*on_cpu).to(seg_logits.device)
    )


def _timed(step: Callable[[], float], device: str) -> float:
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


WAYS = {
    "getam": "`getam.training.phases.JointPhase`",
    "gradients": "two forwards, full matrices, attention gradients alone",
    "backward": "two forwards, full matrices, `backward()` for each pair",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--backbone", default="vitb_hybrid")
    parser.add_argument("--decoder-width", type=int, default=256)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--precision", choices=("float32", "tf32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tf32_allowed(options.precision):
        rows = measure(options)
    print_table(rows)
    print(f"written to {write_results('training', device_name(options.device), rows)}")


def measure(options: argparse.Namespace) -> list[dict]:
    """A row for each implementation; they take turns."""
    steps = {way: prepare(options, way) for way in WAYS}
    losses = {way: step() for way, step in steps.items()}  # the first step, from the same weights
    seconds = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, step in steps.items():
            seconds[way].append(_timed(step, options.device))
    del steps, step
    ours = statistics.median(seconds["getam"])
    rows = []
    for way, name in WAYS.items():
        summary = timings(seconds[way])
        median = float(summary["seconds"])
        rows.append(
            {
                "way": name,
                **summary,
                "images per second": f"{options.batch / median:.2f}",
                "times as long": f"{median / ours:.1f}",
                "peak MiB": f"{peak_memory(options.device, prepare, options, way):.0f}",
                "loss of the first step": f"{losses[way]:.6f}",
                "backbone": options.backbone,
                "side": options.side,
                "batch": options.batch,
                "pairs": len(PAIRS) * options.batch // 4,
                "precision": options.precision,
                "device": device_name(options.device),
            }
        )
    return rows


if __name__ == "__main__":
    main()
