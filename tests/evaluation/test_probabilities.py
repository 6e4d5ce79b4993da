import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from getam import dense_crf
from getam.evaluation.encoding import _encode_on_device, encode
from getam.evaluation.probabilities import read_probabilities, write_encoded, write_probabilities


def plain_file(path, probabilities):
    """The format, number by number, by plain NumPy on whole arrays."""
    kept = np.flatnonzero(probabilities.max((1, 2)) >= 1e-3)
    with np.errstate(divide="ignore"):
        steps = np.minimum(np.rint(np.log(probabilities[kept]) * np.float32(-2048)), 65535).astype(np.int64)
    down = np.diff(steps, axis=1, prepend=0)
    across = np.diff(down, axis=2, prepend=0)
    wrapped = (across + 2**15) % 2**16 - 2**15
    code = np.where(wrapped < 0, -2 * wrapped - 1, 2 * wrapped)
    arrays = {"labels": kept, "low": code % 256, "high": code // 256, "count": np.array(len(probabilities))}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, values in arrays.items():
            with file.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(values.astype(np.uint8), order="C"))


@pytest.mark.parametrize("shape", [(21, 61, 83), (2, 1, 1), (3, 40, 1), (3, 1, 40)])
@pytest.mark.parametrize("sharpness", [0.1, 4, 40, 400])
def test_files_are_those_of_plain_numpy(tmp_path, shape, sharpness):
    """Bit by bit, from an array and from a tensor of the CPU; with probabilities of 0 and of 1."""
    labels, height, width = shape
    probabilities = smooth_probabilities(labels, height, width, sharpness=sharpness)
    plain_file(tmp_path / "plain.npz", probabilities)
    expected = (tmp_path / "plain.npz").read_bytes()
    write_probabilities(tmp_path / "a.npz", probabilities)
    write_encoded(tmp_path / "b.npz", encode(tmp_path / "b.npz", torch.from_numpy(probabilities)))
    assert (tmp_path / "a.npz").read_bytes() == expected
    assert (tmp_path / "b.npz").read_bytes() == expected


@pytest.mark.parametrize("sharpness", [0.1, 4, 40, 400])
def test_the_encoding_of_a_device_is_that_of_the_cpu(tmp_path, sharpness):
    """But for steps that the rounding of the logarithm decides."""
    probabilities = smooth_probabilities(sharpness=sharpness)
    found = _encode_on_device(tmp_path / "a.npz", torch.from_numpy(probabilities))
    expected = encode(tmp_path / "a.npz", probabilities)
    assert found.code.dtype == expected.code.dtype == np.uint16
    assert found.labels.dtype == expected.labels.dtype == np.uint8
    assert np.array_equal(found.labels, expected.labels)
    assert found.count == expected.count
    # A number that is another by a step changes up to four differences.
    assert (found.code != expected.code).mean() < 1e-3
    write_encoded(tmp_path / "a.npz", found)
    write_encoded(tmp_path / "b.npz", expected)
    ours, theirs = (read_probabilities(tmp_path / name) for name in ("a.npz", "b.npz"))
    assert np.abs(ours - theirs).max() < 1.01 / 2048


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_of_a_device_that_are_not_finite(tmp_path, value):
    probabilities = torch.full((3, 4, 5), 1 / 3)
    probabilities[1, 2, 3] = value
    with pytest.raises(ValueError, match=r"a\.npz: the network's output is NaN or infinite"):
        _encode_on_device(tmp_path / "a.npz", probabilities)


def smooth_probabilities(labels=21, height=61, width=83, seed=0, sharpness=4.0):
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(1, labels, 8, 11, generator=generator)
    return F.interpolate(logits, (height, width), mode="bilinear")[0].softmax(0).numpy()


@pytest.mark.parametrize("sharpness", [0.1, 4, 40])
def test_what_is_read_is_what_was_written_but_for_rounding(tmp_path, sharpness):
    expected = smooth_probabilities(sharpness=sharpness)
    write_probabilities(tmp_path / "a.npz", expected)
    found = read_probabilities(tmp_path / "a.npz")
    assert found.dtype == np.float32
    assert np.abs(found.sum(0) - 1).max() < 1e-6
    kept = expected.max((1, 2)) >= 1e-3
    assert np.abs(found - expected).max() < 1e-3 * (1 + (~kept).sum())
    # Relative, down to the smallest, as it is the logarithm that the CRF takes; left-out labels shift all others alike.
    certain = expected[kept] > 1e-13
    ratio = np.log(found[kept][certain]) - np.log(expected[kept][certain])
    assert np.abs(ratio).max() < 1.02 / 2048 + 1e-3 * (~kept).sum() + 1e-5


@pytest.mark.parametrize("shape", [(2, 1, 1), (21, 1, 40), (3, 40, 1)])
def test_small_and_narrow_images(tmp_path, shape):
    expected = np.random.default_rng(0).dirichlet(np.ones(shape[0]), shape[1:]).transpose(2, 0, 1).astype(np.float32)
    write_probabilities(tmp_path / "a.npz", expected)
    assert np.abs(read_probabilities(tmp_path / "a.npz") - expected).max() < 2e-3


def test_a_certain_label(tmp_path):
    expected = np.zeros((4, 5, 6), np.float32)
    expected[2] = 1
    write_probabilities(tmp_path / "a.npz", expected)
    assert np.array_equal(read_probabilities(tmp_path / "a.npz"), expected)


def test_masks_are_those_of_float32(golden_folder, tmp_path):
    """Of the released code's probabilities of a photograph, by way of the CRF and without it."""
    with np.load(golden_folder / "vitb_hybrid.npz") as file:
        image, expected = file["inference_bgr"], file["crf_prob_in"].astype(np.float32)
    expected /= expected.sum(0)
    write_probabilities(tmp_path / "a.npz", expected)
    found = read_probabilities(tmp_path / "a.npz")
    assert (found.argmax(0) == expected.argmax(0)).mean() >= 0.999
    masks = [dense_crf(image, probabilities).argmax(0) for probabilities in (expected, found)]
    assert (masks[0] == masks[1]).double().mean() >= 0.9999


def test_small_files(tmp_path):
    """A photograph's probabilities, as a network gives them: smooth, few labels at a place."""
    probabilities = smooth_probabilities(height=375, width=500, sharpness=6)
    write_probabilities(tmp_path / "a.npz", probabilities)
    assert (tmp_path / "a.npz").stat().st_size < probabilities.nbytes / 8


def test_plain_arrays_are_read_as_they_are(tmp_path):
    expected = smooth_probabilities()
    np.save(tmp_path / "a.npy", expected.astype(np.float16))
    np.savez(tmp_path / "b.npz", expected)
    assert np.array_equal(read_probabilities(tmp_path / "a.npy"), expected.astype(np.float16).astype(np.float32))
    assert np.array_equal(read_probabilities(tmp_path / "b.npz"), expected)


def test_damaged_and_other_files(tmp_path):
    path = tmp_path / "a.npz"
    write_probabilities(path, smooth_probabilities())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"a\.npz cannot be read as an array"):
        read_probabilities(path)
    with pytest.raises(FileNotFoundError):
        read_probabilities(tmp_path / "none.npz")
    np.savez(tmp_path / "two.npz", np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="expected one array, found 2"):
        read_probabilities(tmp_path / "two.npz")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path, value):
    probabilities = np.full((3, 4, 5), 1 / 3, np.float32)
    probabilities[1, 2, 3] = value
    with pytest.raises(ValueError, match=r"a\.npz: the network's output is NaN or infinite"):
        write_probabilities(tmp_path / "a.npz", probabilities)
    assert not (tmp_path / "a.npz").exists()
    np.save(tmp_path / "b.npy", probabilities)
    with pytest.raises(ValueError, match=r"b\.npy: expected finite probabilities, found NaN or infinity"):
        read_probabilities(tmp_path / "b.npy")


def test_a_dictionary_is_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", {"probabilities": np.zeros((3, 4, 5))}, allow_pickle=True)
    with pytest.raises(
        ValueError, match=r"a\.npy holds a Python object, such as a dictionary.*save the probabilities alone"
    ):
        read_probabilities(tmp_path / "a.npy")
