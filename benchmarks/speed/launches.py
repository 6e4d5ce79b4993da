"""Kernel launches and waits of one joint step on a GPU, counted on a pretended one.

    python -m benchmarks.speed.launches [--backbones vit_tiny vitb_hybrid] [--side 256] [--batch 4]

A short training runs on the drawn data set, by the trainer itself, on a CPU that says it is a GPU
(tests/helpers/pretended_cuda). Its last step is counted, by its parts. A launch costs the host 5 to 10 microseconds; a
wait of the host for the device keeps it from preparing what comes next. Writes benchmarks/results/launches.csv.
"""

import argparse
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.pretended_cuda import begin

pretended = begin()  # before torch is imported

import torch  # noqa: E402

from benchmarks.measure import RESULTS, print_table, write_table  # noqa: E402
from getam import load_experiment, train  # noqa: E402
from getam.data import shapes  # noqa: E402
from getam.method import pseudo_labels  # noqa: E402
from getam.method.activation import ActivationRecord  # noqa: E402
from getam.method.losses import DenseEnergyLoss  # noqa: E402
from getam.models.network import SegmentationNetwork  # noqa: E402
from getam.training.trainer import Trainer  # noqa: E402

# Parts of a step, each with the function that does it.
PARTS = {
    "forward": (SegmentationNetwork, "forward"),
    "maps": (ActivationRecord, "maps"),
    "PAMR": (pseudo_labels, "refine_maps"),
    "dense energy": (DenseEnergyLoss, "forward"),
    "backward": (torch.Tensor, "backward"),
    "optimiser": (torch.optim.SGD, "step"),
}
REST = "input, completion, losses, rest"


@contextmanager
def counting(counts: Counter):
    """Counts the launches and waits of each part of the joint steps; of a new step anew."""
    stack = [REST]
    before = {"launches": 0, "waits": 0}

    def close() -> None:
        now = {"launches": sum(pretended.kernels.values()), "waits": sum(pretended.syncs.values())}
        for kind, value in now.items():
            counts[stack[-1], kind] += value - before[kind]
        before.update(now)

    def counted(part: str, function):
        def call(*arguments, **options):
            close()
            stack.append(part)
            try:
                return function(*arguments, **options)
            finally:
                close()
                stack.pop()

        return call

    def step(self, *arguments):
        pretended.kernels.clear()
        pretended.syncs.clear()
        before.update(launches=0, waits=0)
        counts.clear()
        output = original_step(self, *arguments)
        close()
        return output

    original_step = Trainer._step
    originals = [(owner, name, getattr(owner, name)) for owner, name in PARTS.values()]
    for (part, (owner, name)), (_, _, function) in zip(PARTS.items(), originals, strict=True):
        setattr(owner, name, counted(part, function))
    Trainer._step = step
    try:
        yield
    finally:
        Trainer._step = original_step
        for owner, name, function in originals:
            setattr(owner, name, function)


def count(backbone: str, side: int, batch: int) -> list[dict]:
    """The rows of one network: launches and waits of each part of the last of two joint steps."""
    counts: Counter = Counter()
    with tempfile.TemporaryDirectory() as folder, counting(counts):
        drawn = shapes.ShapesSettings(side=side, train=2 * batch, val=1, test=1)
        dataset = shapes.prepare(Path(folder, "shapes"), drawn)
        experiment = load_experiment(
            {
                "name": "launches",
                "data": {"dataset": str(dataset.folder), "split": "train", "saliency": None},
                "network": {"backbone": backbone, "pretrained": False},
                "training": {"crop": side, "batch": batch, "epochs": 1, "classification": 0.0},
                "monitoring": {"sheet": 0, "history": 1000},
            }
        )
        train(experiment, Path(folder, "run"), device="cuda", workers=0)
    rows = [{"backbone": backbone, "part": part, **_of(counts, part)} for part in (*PARTS, REST)]
    total = {kind: sum(row[kind] for row in rows) for kind in ("launches", "waits")}
    return [*rows, {"backbone": backbone, "part": "total", **total}]


def _of(counts: Counter, part: str) -> dict[str, int]:
    return {kind: counts[part, kind] for kind in ("launches", "waits")}


def main() -> None:
    """Counts and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["vit_tiny", "vitb_hybrid"])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--output", type=Path, help="another file to write")
    options = parser.parse_args()
    rows = [row for backbone in options.backbones for row in count(backbone, options.side, options.batch)]
    print_table(rows)
    for (reason, where), times in pretended.syncs.most_common():
        print(f"{times} x {reason} at {where}")
    write_table(options.output or RESULTS / "launches.csv", rows)


if __name__ == "__main__":
    main()
