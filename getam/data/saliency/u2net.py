"""Salient objects by U2-Net (Qin et al., Pattern Recognition 2020), from an ONNX file."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from getam.constants import IMAGE_MEAN, IMAGE_STD

_SIDE = 320


def u2net_saliency(image_rgb: np.ndarray, model: Path, threads: int = 1) -> np.ndarray:
    """float32 (H, W) in 0..1: the network's first output, min-max normalised, at the image's size.

    Args:
        image_rgb: uint8 (H, W, 3).
        model: ONNX file of a network from (1, 3, 320, 320) to (1, 1, 320, 320).
        threads: threads of the network.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is not such a network.
    """
    session = _session(model, threads)
    small = np.asarray(Image.fromarray(image_rgb).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), np.float32)
    # As in U2-Net's training: divided by the image's largest value, then normalised by ImageNet's mean and deviation.
    values = (small / max(small.max(), 1e-6) - np.float32(IMAGE_MEAN)) / np.float32(IMAGE_STD)
    try:
        output = session.run(None, {session.get_inputs()[0].name: values.transpose(2, 0, 1)[None]})[0]
    except Exception as error:  # onnxruntime's errors have no common base class
        raise ValueError(f"{model} cannot be run on (1, 3, {_SIDE}, {_SIDE}): {error}") from error
    if output.shape != (1, 1, _SIDE, _SIDE):
        raise ValueError(f"{model}: expected an output of (1, 1, {_SIDE}, {_SIDE}), got {output.shape}")
    lowest, highest = output.min(), output.max()
    stretched = ((output[0, 0] - lowest) / max(highest - lowest, 1e-6)).astype(np.float32)
    height, width = image_rgb.shape[:2]
    return np.asarray(Image.fromarray(stretched).resize((width, height), Image.Resampling.BILINEAR))


def check_model(model: Path) -> Path:
    """The path; raises FileNotFoundError if the file is missing."""
    if not model.is_file():
        raise FileNotFoundError(f"no ONNX file {model}; `getam fetch u2net` brings it")
    return model


@lru_cache(maxsize=1)
def _session(model: Path, threads: int) -> onnxruntime.InferenceSession:
    check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise ValueError(f"{model} is not an ONNX file: {error}") from error
