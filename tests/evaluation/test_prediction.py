import threading

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from getam import build_model, explain, normalise_images, open_dataset, predict_probabilities
from getam.evaluation import prediction
from getam.evaluation.prediction import predict_files
from getam.evaluation.probabilities import read_probabilities
from tests.helpers.other_device import OnAnotherDevice

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = build_model("vit_micro_hybrid", 5, classifier="class_token", decoder_width=16)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # zeros of the initialisation would hide mistakes
    return network


def image(height=45, width=70, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def reference(network, rgb, sizes):
    """Method, section 6, word by word."""
    total = np.zeros((6, *rgb.shape[:2]))
    for size in sizes:
        square = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_LINEAR)
        values = torch.from_numpy(((square / 255 - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32))
        with torch.no_grad():
            logits = network.eval()(values)[1]
        total += F.interpolate(logits, rgb.shape[:2], mode="bilinear", align_corners=False)[0].numpy()
    scores = np.exp(total / len(sizes))
    return scores / scores.sum(0)


def test_as_specified(network):
    rgb = image()
    found = predict_probabilities(network, rgb, (32, 64, 96))
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - reference(network, rgb, (32, 64, 96))).max() < 1e-5
    assert torch.equal(found, predict_probabilities(network, torch.from_numpy(rgb), (32, 64, 96)))


def test_flip_averages_the_mirrored_logits(network):
    rgb = image()
    plain, flipped = (predict_probabilities(network, x, (64,)).log() for x in (rgb, np.ascontiguousarray(rgb[:, ::-1])))
    expected = ((plain + flipped.flip(2)) / 2).softmax(0)
    assert (predict_probabilities(network, rgb, (64,), flip=True) - expected).abs().max() < 1e-5
    mirrored = predict_probabilities(network, np.ascontiguousarray(rgb[:, ::-1]), (64,), flip=True)
    assert (mirrored.flip(2) - expected).abs().max() < 1e-5


def test_padded_images_keep_their_shape(network):
    """An image that is not larger than the square is not resized; a larger one keeps its proportions."""
    rgb = image()[:40, :50]
    square = np.tile(np.array([124, 116, 104], np.uint8), (64, 64, 1))
    square[:40, :50] = rgb
    with torch.no_grad():
        logits = network(normalise_images(torch.from_numpy(square).permute(2, 0, 1)[None]))[1]
    found = predict_probabilities(network, rgb, (64,), fit="pad")
    assert (found - logits[0, :, :40, :50].softmax(0)).abs().max() < 1e-5
    wide = np.ascontiguousarray(np.tile(rgb, (1, 3, 1)))
    square = np.tile(np.array([124, 116, 104], np.uint8), (96, 96, 1))
    square[:26, :96] = cv2.resize(wide, (96, 26), interpolation=cv2.INTER_LINEAR)
    with torch.no_grad():
        logits = network(normalise_images(torch.from_numpy(square).permute(2, 0, 1)[None]))[1]
    expected = F.interpolate(logits[..., :26, :96], (40, 150), mode="bilinear", align_corners=False)[0].softmax(0)
    assert (predict_probabilities(network, wide, (96,), fit="pad") - expected).abs().max() < 1e-5


def test_the_mode_is_left_as_it_was(network):
    network.train()
    network.decoder.eval()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    predict_probabilities(network, image(), (32,))
    assert network.training
    assert not network.decoder.training
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())
    network.eval()


@pytest.mark.parametrize(
    ("rgb", "sizes", "message"),
    [
        (np.zeros((4, 4), np.uint8), (32,), r"image_rgb: expected uint8 \(H, W, 3\), got uint8 \(4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), (32,), "got float32"),
        (np.zeros((0, 4, 3), np.uint8), (32,), "image_rgb"),
        (np.zeros((4, 4, 3), np.uint8), (), "sizes: expected at least one"),
        (np.zeros((4, 4, 3), np.uint8), (50,), "multiples of 32"),
    ],
)
def test_mistakes(network, rgb, sizes, message):
    with pytest.raises(ValueError, match=message):
        predict_probabilities(network, rgb, sizes)


@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (4, 0), (4, 2)])
def test_files_hold_what_single_images_give(network, small_shapes, tmp_path, batch, workers):
    split = open_dataset(small_shapes / "dataset").split("val")
    settings = {"sizes": (32, 64), "batch": batch, "workers": workers}
    paths = list(predict_files(network, split, split.ids, tmp_path, **settings))
    assert [path.name for path in paths] == [f"{name}.npz" for name in split.ids]
    for path, name in zip(paths, split.ids, strict=True):
        rgb = cv2.cvtColor(cv2.imread(str(split.image(name))), cv2.COLOR_BGR2RGB)
        expected = predict_probabilities(network, rgb, (32, 64)).numpy()
        assert np.abs(read_probabilities(path) - expected).max() < 1e-3


@pytest.fixture
def nine(network, small_shapes):
    """A split of nine images, and what `predict_files` takes for them: three batches."""
    split = open_dataset(small_shapes / "dataset").split("val")
    return network, split, split.ids


PATIENCE = 30  # seconds until a test gives up; it takes them only where nothing overlaps


def test_the_network_runs_while_files_are_written(nine, tmp_path, monkeypatch):
    """The first file is held back until the second batch runs, and the third batch until a file is being written."""
    batches, second_runs, writing = [], threading.Event(), threading.Event()

    def slow_network(module, inputs):
        batches.append(len(inputs[0]))
        if len(batches) == 2:
            second_runs.set()
        if len(batches) == 3:
            assert writing.wait(PATIENCE), "no file was written while the network ran"

    def slow_writer(path, encoded, write=prediction.write_encoded):
        if path.stem == nine[2][0]:
            assert second_runs.wait(PATIENCE), "the network has waited for a file"
        else:
            writing.set()
        write(path, encoded)

    monkeypatch.setattr(prediction, "write_encoded", slow_writer)
    hook = nine[0].register_forward_pre_hook(slow_network)
    try:
        paths = list(predict_files(*nine, tmp_path, sizes=(32,), batch=3))
    finally:
        hook.remove()
    assert [path.stem for path in paths] == list(nine[2])
    assert batches == [3, 3, 3]


def test_images_are_encoded_while_the_network_runs(nine, tmp_path, monkeypatch):
    batches, third_runs = [], threading.Event()

    def count(module, inputs):
        batches.append(len(inputs[0]))
        if len(batches) == 3:
            third_runs.set()

    def slow_encoder(path, probabilities, encode=prediction.encode):
        # The first image of the second batch, of which none is encoded while the third one runs.
        if path.stem == nine[2][3]:
            assert third_runs.wait(PATIENCE), "the network has waited for the encoding"
        return encode(path, probabilities)

    monkeypatch.setattr(prediction, "encode", slow_encoder)
    hook = nine[0].register_forward_pre_hook(count)
    try:
        assert len(list(predict_files(*nine, tmp_path, sizes=(32,), batch=3))) == 9
    finally:
        hook.remove()


def test_slow_encoding_bounds_the_probabilities(nine, tmp_path, monkeypatch):
    """Of one image a batch, two wait for their encoding and no third one is computed."""
    batches, second_runs, release = [], threading.Event(), threading.Event()

    def count(module, inputs):
        batches.append(1)
        if len(batches) == 2:
            second_runs.set()

    def held(path, probabilities, encode=prediction.encode):
        assert release.wait(PATIENCE)
        return encode(path, probabilities)

    monkeypatch.setattr(prediction, "encode", held)
    hook = nine[0].register_forward_pre_hook(count)
    paths = []
    user = threading.Thread(target=lambda: paths.extend(predict_files(*nine, tmp_path, sizes=(32,), batch=1)))
    try:
        user.start()
        assert second_runs.wait(PATIENCE)
        user.join(0.5)  # the network takes some milliseconds
        assert len(batches) == 2
        release.set()
        user.join(PATIENCE)
    finally:
        release.set()
        hook.remove()
    assert len(paths) == len(batches) == 9


def test_a_file_that_cannot_be_written(nine, tmp_path, monkeypatch):
    def full(path, encoded, write=prediction.write_encoded):
        if path.stem == nine[2][4]:
            path.mkdir()  # what `replace` refuses
        write(path, encoded)

    monkeypatch.setattr(prediction, "write_encoded", full)
    threads = set(threading.enumerate())
    with pytest.raises(OSError, match=rf"{nine[2][4]}\.npz"):
        list(predict_files(*nine, tmp_path, sizes=(32,), batch=3))
    assert set(threading.enumerate()) <= threads
    whole = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {f"{name}.npz" for name in nine[2][:4]} <= {path.name for path in whole}
    assert all(read_probabilities(path).shape[0] == 6 for path in whole)


def test_a_network_that_fails(nine, tmp_path):
    batches = []

    def fail(module, inputs):
        batches.append(1)
        if len(batches) == 3:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    hook = nine[0].register_forward_pre_hook(fail)
    threads = set(threading.enumerate())
    try:
        with pytest.raises(RuntimeError, match="an illegal memory access"):
            list(predict_files(*nine, tmp_path, sizes=(32,), batch=3))
    finally:
        hook.remove()
    assert set(threading.enumerate()) <= threads
    assert all(path.suffix == ".npz" and read_probabilities(path).shape[0] == 6 for path in tmp_path.iterdir())


def test_a_network_that_gives_nan(nine, tmp_path):
    def spoil(module, inputs, outputs):
        outputs[1][:] = torch.nan

    hook = nine[0].register_forward_hook(spoil)
    try:
        with pytest.raises(ValueError, match=rf"{nine[2][0]}\.npz: the network's output is NaN or infinite"):
            list(predict_files(*nine, tmp_path, sizes=(32,), batch=3))
    finally:
        hook.remove()
    assert list(tmp_path.iterdir()) == []


def test_images_on_another_device():
    torch.manual_seed(0)
    network = build_model("vit_tiny", 3, decoder_width=8).eval()
    image = torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8)
    elsewhere = image.as_subclass(OnAnotherDevice)
    with pytest.raises(TypeError, match="cuda:0"):
        np.asarray(elsewhere)
    assert torch.equal(predict_probabilities(network, elsewhere, [32]), predict_probabilities(network, image, [32]))
    maps, expected = (explain(network, picture, [1], size=64)[1] for picture in (elsewhere, image))
    assert torch.equal(maps, expected)
