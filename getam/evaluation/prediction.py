"""Multi-scale prediction (docs/method.md section 6)."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from getam.data.dataset import Split
from getam.data.images import check_image
from getam.data.loading import InferenceImages, inference_images, squares
from getam.evaluation.probabilities import write_probabilities
from getam.models.backbones import normalise_images
from getam.models.runtime import autocast, eval_mode, tf32_allowed

SIZES = (256, 320, 480)
_WRITERS = 4


def predict_probabilities(
    network: nn.Module, image_rgb: np.ndarray | Tensor, sizes: Sequence[int] = SIZES, flip: bool = False
) -> Tensor:
    """Probabilities of the labels at every pixel of one image.

    The image is resized to a square of each size, in bytes, as OpenCV's INTER_LINEAR does it; the logits are brought to
    the image's size (bilinear, align_corners=False) and averaged before the softmax.

    Args:
        network: a SegmentationNetwork; it runs in eval mode and returns to the mode it was in.
        image_rgb: uint8 (H, W, 3).
        sizes: sides of the squares, multiples of 32.
        flip: average with the mirrored squares' logits, mirrored back.

    Returns:
        float32 (C + 1, H, W), background first, on the network's device.

    Raises:
        ValueError: an image of another shape or type, or a size that is not a multiple of 32.
    """
    image = check_image(image_rgb)
    if not sizes:
        raise ValueError("sizes: expected at least one")
    with eval_mode(network), tf32_allowed("float32"):
        return next(_predict(network, [(image.shape[:2], squares(image, sizes))], flip, "float32"))


@torch.inference_mode()
def _predict(
    network: nn.Module, images: Sequence[tuple[tuple[int, int], list[np.ndarray]]], flip: bool, precision: str
) -> Iterator[Tensor]:
    """Probabilities of several images, each given as (H, W) and its squares; squares of one size run as one batch."""
    device = next(network.parameters()).device
    totals: list[Tensor | float] = [0.0] * len(images)
    scales = [np.stack(of_one_size) for of_one_size in zip(*(of_image for _, of_image in images), strict=True)]
    for batch in scales:
        logits = _logits(network, torch.from_numpy(batch).to(device), flip, precision)
        for i, (size, _) in enumerate(images):
            totals[i] += F.interpolate(logits[i : i + 1], size, mode="bilinear", align_corners=False)[0]
    for total in totals:
        yield (total / len(scales)).softmax(0)


def _logits(network: nn.Module, images_rgb: Tensor, flip: bool, precision: str) -> Tensor:
    images = normalise_images(images_rgb.permute(0, 3, 1, 2).contiguous())
    with autocast(images.device, precision):
        logits = network(images)[1].float()
        return (logits + network(images.flip(3))[1].float().flip(3)) / 2 if flip else logits


def predict_files(
    network: nn.Module,
    split: Split,
    ids: Sequence[str],
    folder: Path,
    sizes: Sequence[int] = SIZES,
    flip: bool = False,
    precision: str = "float32",
    batch: int = 4,
    workers: int = 0,
) -> Iterator[Path]:
    """Writes <id>.npz (see `getam.evaluation.probabilities`) for images of a split and yields each path.

    Args:
        ids: images of the split.
        folder: where the files are written.
        sizes, flip: as `predict_probabilities` takes them.
        precision: float32, tf32 or bfloat16 (autocast).
        batch: images that run through the network at once.
        workers: processes that read and resize images.

    Raises:
        ValueError: an image cannot be read; the files written so far stay.
    """
    loader = iter(inference_images(InferenceImages(split, ids, sizes), workers))
    with eval_mode(network), tf32_allowed(precision), ThreadPoolExecutor(_WRITERS) as writers:
        written: list[Future[Path]] = []
        while images := list(islice(loader, batch)):
            # One batch is written while the next one runs.
            yield from (future.result() for future in written)
            predicted = _predict(network, [(size, of_image) for _, size, of_image in images], flip, precision)
            written = [
                writers.submit(_write, folder / f"{name}.npz", probabilities)
                for (name, _, _), probabilities in zip(images, predicted, strict=True)
            ]
        yield from (future.result() for future in written)


def _write(path: Path, probabilities: Tensor) -> Path:
    write_probabilities(path, probabilities.cpu().numpy())
    return path
