import numpy as np
import pytest
import torch
import torch.nn.functional as F

from getam import dense_crf
from getam.evaluation.probabilities import read_probabilities, write_probabilities


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
