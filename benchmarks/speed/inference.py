"""From weights to scores: the stages of this package against the usual script, on the same images.

    python -m benchmarks.speed.inference RUN [--split val] [--images 40] [--device cuda]

RUN is what `getam train` has written. The usual script takes one image at a time through the network, size by size,
keeps float32 probabilities in .npy files, and calls pydensecrf on them in one process. The masks of both are compared.
Writes benchmarks/results/inference-<device>.csv.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.measure import print_table, write_results
from getam import ConfusionMatrix, SegmentationNetwork, dense_crf, normalise_images
from getam.config.experiment import Experiment
from getam.data.dataset import Split
from getam.data.images import read_image, read_mask
from getam.evaluation.masks import Job, refine_files
from getam.evaluation.prediction import predict_files
from getam.evaluation.probabilities import read_probabilities
from getam.evaluation.run import Run
from getam.evaluation.scores import score_masks
from getam.utils.hardware import device_name
from getam.utils.parallel import available_cores


def chain(network: SegmentationNetwork, run: Run, split: Split, folder: Path) -> tuple[dict[str, float], dict]:
    """Seconds of each stage of this package, and the scores' summary."""
    settings, cores = run.experiment.inference, available_cores()
    seconds = {}
    with _clock(seconds, "predict"):
        list(predict_files(network, split, split.ids, folder / "p", settings.sizes, settings.flip, workers=1))
    jobs = [Job(folder / "p" / f"{name}.npz", split.image(name), folder / "m" / f"{name}.png") for name in split.ids]
    with _clock(seconds, "CRF"):
        list(refine_files(jobs, run.experiment.crf.settings(), cores))
    with _clock(seconds, "score"):
        score = score_masks(split, run.dataset.classes, folder / "m", cores)
    return seconds, score.summary()


def usual(
    network: SegmentationNetwork, experiment: Experiment, split: Split, labels: int, folder: Path
) -> tuple[dict[str, float], list[np.ndarray]]:
    """Seconds of the usual script, and its masks."""
    seconds, masks = {}, []
    device = next(network.parameters()).device
    with _clock(seconds, "predict"), torch.no_grad():
        for name in split.ids:
            image, total = read_image(split.image(name)), 0
            for size in experiment.inference.sizes:
                square = torch.from_numpy(cv2.resize(image, (size, size))).permute(2, 0, 1)[None].to(device)
                logits = network(normalise_images(square))[1]
                total = total + F.interpolate(logits, image.shape[:2], mode="bilinear", align_corners=False)
            probabilities = (total / len(experiment.inference.sizes)).softmax(1)[0]
            np.save(folder / f"{name}.npy", probabilities.cpu().numpy())
    crf = experiment.crf
    with _clock(seconds, "CRF"):
        for name in split.ids:
            marginals = dense_crf(
                read_image(split.image(name)),
                np.load(folder / f"{name}.npy"),
                crf.iterations,
                crf.gaussian,
                crf.bilateral,
                "pydensecrf",
            )
            masks.append(marginals.argmax(0).numpy())
    matrix = ConfusionMatrix(labels)
    with _clock(seconds, "score"):
        for name, mask in zip(split.ids, masks, strict=True):
            matrix.update(read_mask(split.mask(name)), mask)
    return seconds, masks


class _clock:  # noqa: N801 - used like a function
    def __init__(self, seconds: dict[str, float], stage: str):
        self._seconds, self._stage = seconds, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *exception) -> None:
        self._seconds[self._stage] = time.perf_counter() - self._start


def compared(split: Split, folder: Path, masks: list[np.ndarray]) -> dict[str, str]:
    """How much of the masks is equal, and how large the compact files are."""
    ours = (read_mask(folder / "m" / f"{name}.png") for name in split.ids)
    equal = [(mask == usual_mask).mean() for mask, usual_mask in zip(ours, masks, strict=True)]
    argmax = [
        (read_probabilities(folder / "p" / f"{name}.npz").argmax(0) == np.load(folder / f"{name}.npy").argmax(0)).mean()
        for name in split.ids
    ]
    refined = []
    for name in split.ids:
        # The float32 path: the same CRF on the probabilities as they were.
        image = read_image(split.image(name))
        exact = dense_crf(image, np.load(folder / f"{name}.npy")).argmax(0).numpy()
        packed = dense_crf(image, read_probabilities(folder / "p" / f"{name}.npz")).argmax(0).numpy()
        refined.append((exact == packed).mean())
    size = sum(path.stat().st_size for path in (folder / "p").glob("*.npz")) / len(split)
    return {
        "masks equal to the usual script's": f"{np.mean(equal):.6f}",
        "masks equal to those of float32 probabilities": f"{np.mean(refined):.6f}",
        "the same without CRF": f"{np.mean(argmax):.6f}",
        "KiB of probabilities an image": f"{size / 1024:.0f}",
        "GB for 1449 images": f"{1449 * size / 1e9:.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    run = Run(options.run)
    whole = run.dataset.split(options.split)
    split = replace(whole, ids=whole.ids[:: max(1, len(whole) // options.images)][: options.images], labels=None)
    network = run.load_network(torch.device(options.device))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, summary = chain(network, run, split, folder)
        theirs, masks = usual(network, run.experiment, split, len(run.dataset.classes) + 1, folder)
        equal = compared(split, folder, masks)
    rows = []
    for stage in ("predict", "CRF", "score", "whole chain"):
        own, other = (sum(s.values()) if stage == "whole chain" else s[stage] for s in (ours, theirs))
        rows.append(
            {
                "stage": stage,
                "images per second": f"{len(split) / own:.2f}",
                "of the usual script": f"{len(split) / other:.2f}",
                "times faster": f"{other / own:.1f}",
                "images": len(split),
                "backbone": run.experiment.network.name,
                "sizes": " ".join(map(str, run.experiment.inference.sizes)),
                "mIoU": f"{100 * summary['mIoU']:.2f}",
                **equal,
                "device": device_name(options.device),
            }
        )
    print_table(rows)
    print(f"written to {write_results('inference', device_name(options.device), rows)}")


if __name__ == "__main__":
    main()
