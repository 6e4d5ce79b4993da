"""Saliency maps by a network in an ONNX file, on the CPU or, with onnxruntime-gpu, on a GPU."""

import logging
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from scipy.special import expit

from getam.data.saliency.onnx_models import OnnxModel
from getam.utils.hardware import check_device, choose_device

_log = logging.getLogger(__name__)
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def network_saliency(
    image_rgb: np.ndarray, model: OnnxModel, path: Path, threads: int = 1, device: str = "cpu"
) -> np.ndarray:
    """float32 (H, W) in 0..1: the network's first output, min-max normalised, at the image's size.

    Args:
        image_rgb: uint8 (H, W, 3).
        model: input and output conventions of the network.
        path: the ONNX file.
        threads: threads of the network on the CPU.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is not a network of this input size, or `device` is cuda and onnxruntime has no GPU.
    """
    session = _session(check_file(model, path), threads, device)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = (1, 1, model.side, model.side)
    try:
        # Asking for the first output alone: IS-Net has 13, some of them hundreds of megabytes.
        output = session.run([outputs[0].name], {inputs[0].name: network_input(image_rgb, model)})[0]
    except Exception as error:  # onnxruntime's errors have no common base class
        raise ValueError(f"{path} cannot be run on (1, 3, {model.side}, {model.side}): {error}") from error
    if output.shape != shape:
        raise ValueError(f"{path}: expected a first output of {shape}, got {output.shape}")
    values = expit(output[0, 0]) if model.sigmoid else output[0, 0]
    lowest, highest = values.min(), values.max()
    normalised = ((values - lowest) / max(highest - lowest, 1e-6)).astype(np.float32)
    height, width = image_rgb.shape[:2]
    return np.asarray(Image.fromarray(normalised).resize((width, height), Image.Resampling.BILINEAR))


def network_input(image_rgb: np.ndarray, model: OnnxModel) -> np.ndarray:
    """float32 (1, 3, side, side): the image resized and normalised as in the network's training."""
    size = (model.side, model.side)
    small = np.asarray(Image.fromarray(image_rgb).resize(size, Image.Resampling.BILINEAR), np.float32)
    scale = max(small.max(), 1e-6) if model.by_brightest else np.float32(255)
    values = (small / scale - np.float32(model.mean)) / np.float32(model.std)
    return values.transpose(2, 0, 1)[None]


def check_file(model: OnnxModel, path: Path) -> Path:
    """The path of the network's file; raises FileNotFoundError if the file is missing."""
    if not path.is_file():
        raise FileNotFoundError(f"no ONNX file {path}; `getam fetch {model.name}` downloads it")
    return path


def uses_gpu(device: str) -> bool:
    """Whether a network runs on a GPU: onnxruntime is built with CUDA, and there is a GPU.

    Raises:
        ValueError: `device` is not auto, cpu, cuda or cuda:N, or it is cuda and one of the two is missing.
    """
    check_device(device)
    has_cuda = _CUDA in onnxruntime.get_available_providers()
    if device.startswith("cuda") and not has_cuda:
        raise ValueError(
            f"device: {device} needs onnxruntime-gpu, found onnxruntime {onnxruntime.__version__} without CUDA; "
            "install it in place of onnxruntime, or use cpu"
        )
    return has_cuda and device != "cpu" and choose_device(device).type == "cuda"


@lru_cache(maxsize=1)
def _session(path: Path, threads: int, device: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Without TF32, so that maps do not depend on the device by more than rounding.
    on_gpu = uses_gpu(device)
    providers = [(_CUDA, {"device_id": str(choose_device(device).index), "use_tf32": "0"}), _CPU] if on_gpu else [_CPU]
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # as above
        raise ValueError(f"{path} is not an ONNX file: {error}") from error
    if on_gpu and _CUDA not in session.get_providers():
        message = f"device: onnxruntime {onnxruntime.__version__} cannot load its CUDA libraries"
        if device.startswith("cuda"):
            raise ValueError(f"{message}; cpu does not need them")
        _log.warning("%s: the network runs on the CPU", message)
    return session
