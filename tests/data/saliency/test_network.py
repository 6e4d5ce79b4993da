"""Saliency by ONNX networks: input and output of each published model, devices, and real weights where they are."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image
from skimage import data

from getam.data.archives.registry import read_registry
from getam.data.saliency import network
from getam.data.saliency.network import network_saliency, uses_gpu
from getam.data.saliency.onnx_models import MODELS
from tests.helpers.onnx_networks import GAIN, write_network

REGISTRY = Path(__file__).parents[3] / "config" / "archives.yaml"
IMAGENET = (0.485, 0.229)  # mean and deviation of the red channel
# side, divisor (None: the image's largest value), mean and deviation of red, sigmoid
CONVENTIONS = {
    "u2net": (320, None, IMAGENET, False),
    "u2netp": (320, None, IMAGENET, False),
    "isnet": (1024, 255, (0.5, 1.0), False),
    "birefnet": (1024, 255, IMAGENET, True),
}


def picture() -> np.ndarray:
    """A smooth image of 70 x 90 pixels whose largest value is below 255."""
    coarse = np.random.default_rng(0).integers(0, 200, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((90, 70)))


@pytest.mark.parametrize("name", MODELS)
def test_input_and_output(name, tmp_path):
    """Against the same steps in float64 on the red channel, which is the network's first output."""
    side, divisor, (mean, deviation), sigmoid = CONVENTIONS[name]
    image, path = picture(), write_network(tmp_path / "network.onnx", side)
    found = network_saliency(image, MODELS[name], path)
    assert found.shape == (70, 90)
    assert found.dtype == np.float32
    small = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR), np.float64)
    values = GAIN * (small[..., 0] / (divisor or small.max()) - mean) / deviation
    if sigmoid:
        values = 1 / (1 + np.exp(-values))
    values = ((values - values.min()) / (values.max() - values.min())).astype(np.float32)
    expected = np.asarray(Image.fromarray(values).resize((90, 70), Image.Resampling.BILINEAR))
    assert np.abs(found - expected).max() < 1e-5
    assert found.min() < 0.1
    assert found.max() > 0.9


@pytest.mark.parametrize("name", MODELS)
def test_all_channels_are_normalised(name):
    side, divisor, _, _ = CONVENTIONS[name]
    image = np.array(Image.new("RGB", (20, 10), (40, 100, 160)))
    mean, deviation = ([0.5] * 3, [1] * 3) if name == "isnet" else ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    values = network.network_input(image, MODELS[name])
    assert values.shape == (1, 3, side, side)
    assert values.dtype == np.float32
    expected = (np.array([40, 100, 160]) / (divisor or 160) - mean) / deviation
    assert np.abs(values - expected[:, None, None]).max() < 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_a_flat_output_is_no_saliency(name, tmp_path):
    path = write_network(tmp_path / "network.onnx", MODELS[name].side)
    assert not network_saliency(np.full((5, 5, 3), 9, np.uint8), MODELS[name], path).any()


def test_large_logits_do_not_overflow(tmp_path):
    path = write_network(tmp_path / "network.onnx", 1024, gain=1e4)
    with np.errstate(all="raise"):
        found = network_saliency(picture(), MODELS["birefnet"], path)
    assert found.max() == 1


def test_bad_files(tmp_path):
    image = picture()
    with pytest.raises(FileNotFoundError, match=r"no ONNX file .*none\.onnx; `getam fetch isnet` downloads it"):
        network_saliency(image, MODELS["isnet"], tmp_path / "none.onnx")
    (tmp_path / "page.onnx").write_text("<html>")
    with pytest.raises(ValueError, match=r"page\.onnx is not an ONNX file"):
        network_saliency(image, MODELS["u2net"], tmp_path / "page.onnx")
    # A network of another input size: the wrong file for this source.
    for name, side, expected in (("u2net", 1024, 320), ("isnet", 320, 1024)):
        path = write_network(tmp_path / f"{side}.onnx", side)
        with pytest.raises(ValueError, match=rf"{side}\.onnx cannot be run on \(1, 3, {expected}, {expected}\)"):
            network_saliency(image, MODELS[name], path)


def test_the_models_are_in_the_registry_of_archives():
    archives, entries = read_registry(REGISTRY), yaml.safe_load(REGISTRY.read_text())
    for name, model in MODELS.items():
        assert model.name == name
        assert archives[name].file == model.file
        assert archives[name].sha256 == model.sha256
        assert len(model.sha256) == 64
        assert archives[name].size > 4_000_000
        assert archives[name].urls == (f"https://github.com/danielgatis/rembg/releases/download/v0.0.0/{model.file}",)
        assert entries[name]["md5"]
        assert model.licence in ("Apache-2.0", "MIT")


class Session:
    """Takes the place of onnxruntime's session and records its providers."""

    def __init__(self, path, options, providers):
        self.asked = providers
        self.threads = options.intra_op_num_threads

    def get_providers(self):
        return ["CPUExecutionProvider"]


@pytest.fixture
def gpu_build(monkeypatch, tmp_path):
    """onnxruntime as if built with CUDA; every session fails to load CUDA, as it does with wrong libraries."""
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(network, "choose_device", lambda name: torch.device("cuda", 1))
    network._session.cache_clear()
    yield write_network(tmp_path / "network.onnx", 320)
    network._session.cache_clear()


def test_devices_of_this_machine():
    assert not uses_gpu("cpu")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert not uses_gpu("auto")
        with pytest.raises(ValueError, match="device: cuda needs onnxruntime-gpu, found onnxruntime .* without CUDA"):
            uses_gpu("cuda")
    with pytest.raises(ValueError, match="device: expected one of auto, cpu, cuda, cuda:N, got 'tpu'"):
        uses_gpu("tpu")


def test_a_gpu_is_used_where_onnxruntime_has_it(gpu_build, caplog):
    assert uses_gpu("auto")
    assert uses_gpu("cuda")
    assert not uses_gpu("cpu")
    assert network._session(gpu_build, 3, "cpu").asked == ["CPUExecutionProvider"]
    # Without TF32: maps of a GPU and of a CPU are to be the same.
    session = network._session(gpu_build, 3, "auto")
    assert session.asked == [("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"}), "CPUExecutionProvider"]
    assert session.threads == 3
    assert "cannot load its CUDA libraries: the network runs on the CPU" in caplog.text
    with pytest.raises(ValueError, match="cannot load its CUDA libraries; cpu does not need them"):
        network._session(gpu_build, 3, "cuda")


@pytest.mark.skipif(
    "GETAM_ISNET" not in os.environ, reason="GETAM_ISNET names the ONNX file of an IS-Net of 1024 pixels"
)
def test_real_weights_of_isnet():
    """A coffee cup, a cat and an astronaut fill the middle; the corners at the top are background."""
    for image in (data.coffee(), data.chelsea(), data.astronaut()):
        saliency = network_saliency(image, MODELS["isnet"], Path(os.environ["GETAM_ISNET"]), threads=2)
        assert saliency.shape == image.shape[:2]
        height, width = saliency.shape
        assert saliency[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8].mean() > 0.9
        assert 0.1 < (saliency > 0.5).mean() < 0.9
