"""Multi-scale prediction (docs/explanation/method.md section 6)."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from getam.data.dataset import Split
from getam.data.images import check_image
from getam.data.loading import InferenceImages, area_in_square, inference_images, squares
from getam.evaluation.encoding import Encoded, encode
from getam.evaluation.probabilities import write_encoded
from getam.models.backbones import normalise_images
from getam.models.runtime import autocast, eval_mode, tf32_allowed
from getam.utils.pipeline import Stage, pipelined

SIZES = (256, 320, 480)
_WRITERS = 4


def predict_probabilities(
    network: nn.Module,
    image_rgb: np.ndarray | Tensor,
    sizes: Sequence[int] = SIZES,
    flip: bool = False,
    fit: str = "stretch",
) -> Tensor:
    """Probabilities of the labels at every pixel of one image.

    The image is resized to a square of each size, in bytes, as OpenCV's INTER_LINEAR does it; the logits are brought to
    the image's size (bilinear, align_corners=False) and averaged before the softmax.

    Args:
        network: a SegmentationNetwork; it runs in eval mode and returns to the mode it was in.
        image_rgb: uint8 (H, W, 3).
        sizes: sides of the squares; of GETAM's network multiples of 32.
        flip: average with the mirrored squares' logits, mirrored back.
        fit: `stretch`, or `pad`: the image keeps its shape, and its size if the square is large enough.

    Returns:
        float32 (C + 1, H, W), background first, on the network's device.

    Raises:
        ValueError: an image of another shape or type, or a size that is not a multiple of 32.

    >>> network = build_model("vit_micro_hybrid", num_classes=5, decoder_width=16)
    >>> probabilities = predict_probabilities(network, np.zeros((48, 64, 3), np.uint8), sizes=(64, 96))
    >>> probabilities.shape
    torch.Size([6, 48, 64])
    """
    image = check_image(image_rgb)
    if not sizes:
        raise ValueError("sizes: expected at least one")
    with eval_mode(network), tf32_allowed("float32"):
        return next(_predict(network, [(image.shape[:2], squares(image, sizes, fit))], flip, "float32", fit))


@torch.inference_mode()
def _predict(
    network: nn.Module,
    images: Sequence[tuple[tuple[int, int], list[np.ndarray]]],
    flip: bool,
    precision: str,
    fit: str = "stretch",
) -> Iterator[Tensor]:
    """Probabilities of several images, each given as (H, W) and its squares; squares of one size run as one batch."""
    device = next(network.parameters()).device
    totals: list[Tensor | float] = [0.0] * len(images)
    scales = [np.stack(of_one_size) for of_one_size in zip(*(of_image for _, of_image in images), strict=True)]
    for batch in scales:
        logits = _logits(network, _copied(batch, device), flip, precision)
        for i, (size, _) in enumerate(images):
            own = logits[i : i + 1]
            if fit == "pad":
                height, width = area_in_square(size, own.shape[-1])
                own = own[..., :height, :width]
            totals[i] += F.interpolate(own, size, mode="bilinear", align_corners=False)[0]
    for total in totals:
        yield (total / len(scales)).softmax(0)


def _copied(images_rgb: np.ndarray, device: torch.device) -> Tensor:
    """On the device. For a GPU from pinned memory: the host does not wait until it has come to this copy."""
    values = torch.from_numpy(images_rgb)
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


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
    fit: str = "stretch",
) -> Iterator[Path]:
    """Writes <id>.npz (see `getam.evaluation.probabilities`) for images of a split and yields each path.

    The network, the encoding of probabilities (on the network's device) and the writing of files run at once, each on
    other images. The images between them are bounded, at most batch + 1 of them as float32 (C + 1, H, W).

    Args:
        ids: images of the split.
        folder: where the files are written.
        sizes, flip, fit: as `predict_probabilities` takes them.
        precision: float32, tf32 or bfloat16 (autocast).
        batch: images that run through the network at once.
        workers: processes that read and resize images.

    Raises:
        ValueError: an image cannot be read, or probabilities are NaN or infinite; the files written so far stay.
        OSError: a file cannot be written.
    """
    loader = iter(inference_images(InferenceImages(split, ids, sizes, fit), workers))

    def predicted() -> Iterator[tuple[Path, Tensor]]:
        while images := list(islice(loader, batch)):
            found = _predict(network, [(size, of_image) for _, size, of_image in images], flip, precision, fit)
            for (name, _, _), probabilities in zip(images, found, strict=True):
                yield folder / f"{name}.npz", probabilities

    # One batch waits for its encoding while the next one runs.
    encoding, writing = Stage(_encode, 1, batch + 1), Stage(_write, _WRITERS, batch + 1 + 2 * _WRITERS)
    with eval_mode(network), tf32_allowed(precision):
        yield from pipelined(predicted(), encoding, writing)


def _encode(image: tuple[Path, Tensor]) -> tuple[Path, Encoded]:
    path, probabilities = image
    return path, encode(path, probabilities)


def _write(image: tuple[Path, Encoded]) -> Path:
    path, encoded = image
    write_encoded(path, encoded)
    return path
