"""Masks in batches, as a GPU makes them; tests/test_cuda.py runs them on one. Here the device is the CPU."""

import numpy as np
import pytest
import torch
from PIL import Image

from getam.cli.command import main
from getam.data.images import read_mask
from getam.evaluation import device_masks
from getam.evaluation.device_masks import refine_files_on_device
from getam.evaluation.masks import Job, find_jobs, refine_files
from getam.lattice.settings import CrfSettings

CPU = torch.device("cpu")
SETTINGS = CrfSettings(5, (2, 3), (10, 30, 8), negligible=0)
# Images of two sizes; labels that each may have, of six.
CASES = {
    "a": ((20, 30), (0, 5)),
    "b": ((33, 17), (0, 1, 2, 3, 4, 5)),
    "c": ((20, 30), (2,)),
    "d": ((20, 30), (0, 2, 3)),
    "e": ((33, 17), (1, 4)),
    "f": ((20, 30), (0, 1, 2, 3, 4, 5)),
}


@pytest.fixture
def folders(tmp_path):
    """probabilities/, images/ and the masks' folder, which is not there yet."""
    generator = np.random.default_rng(0)
    probabilities, images = tmp_path / "probabilities", tmp_path / "images"
    probabilities.mkdir()
    images.mkdir()
    for name, (size, labels) in CASES.items():
        p = np.zeros((6, *size), np.float32)
        p[list(labels)] = generator.dirichlet(np.ones(len(labels)), size).transpose(2, 0, 1)
        np.save(probabilities / f"{name}.npy", p)
        Image.fromarray(generator.integers(0, 256, (*size, 3), np.uint8)).save(images / f"{name}.png")
    return probabilities, images, tmp_path / "masks"


@pytest.mark.parametrize(("batch", "workers"), [(1, 1), (2, 1), (3, 2), (4, 3), (10, 2)])
@pytest.mark.parametrize("bgr", [False, True])
def test_the_same_masks_as_one_by_one(folders, tmp_path, batch, workers, bgr):
    settings = CrfSettings(5, (2, 3), (10, 30, 8), negligible=0, bgr=bgr)
    jobs = find_jobs(*folders)
    assert sorted(refine_files_on_device(jobs, settings, CPU, batch, workers)) == sorted(job.mask for job in jobs)
    for expected in refine_files(find_jobs(*folders[:2], tmp_path / "expected"), settings, 1):
        assert np.array_equal(read_mask(folders[2] / expected.name), read_mask(expected))
    assert np.unique(read_mask(folders[2] / "c.png")).tolist() == [2]


def test_batches_have_one_size(folders, monkeypatch):
    sizes = []
    original = device_masks._masks

    def noted(group, *rest):
        sizes.append([one.image.shape[:2] for one in group])
        return original(group, *rest)

    monkeypatch.setattr(device_masks, "_masks", noted)
    list(refine_files_on_device(find_jobs(*folders), SETTINGS, CPU, 3))
    assert sizes == [[(20, 30)] * 3, [(33, 17)] * 2, [(20, 30)]]
    sizes.clear()
    # Images wait for others of their size, but not for ever.
    monkeypatch.setattr(device_masks, "_WAITING", 1)
    list(refine_files_on_device(find_jobs(*folders), SETTINGS, CPU, 3))
    assert sizes == [[(20, 30)] * 2, [(33, 17)] * 2, [(20, 30)] * 2]


def test_masks_without_the_crf(folders, tmp_path):
    jobs = [
        Job(job.probabilities, job.image, job.mask if i % 2 else None, tmp_path / "plain" / job.mask.name)
        for i, job in enumerate(find_jobs(*folders))
    ]
    list(refine_files_on_device(jobs, SETTINGS, CPU, 2))
    assert len(list(folders[2].iterdir())) == 3
    for job in jobs:
        assert np.array_equal(read_mask(job.plain), np.load(job.probabilities).argmax(0))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_broken_file_is_named_and_finished_masks_stay(folders, workers):
    probabilities, _, masks = folders
    np.save(probabilities / "e.npy", np.full((6, 33, 17), 0.2, np.float32))
    with pytest.raises(ValueError, match=r"e\.npy with .*e\.png: probabilities: expected every pixel to sum to 1"):
        list(refine_files_on_device(find_jobs(*folders), SETTINGS, CPU, 1, workers))
    # At most those of the batches before it.
    assert {path.name for path in masks.iterdir()} == {"a.png", "b.png", "c.png", "d.png"}


def test_sigmas_that_no_lattice_holds(folders):
    settings = CrfSettings(5, (2, 3), (10, 1e-5, 8))
    with pytest.raises(ValueError, match=r"a\.npy with .*a\.png: .*sigma is too small"):
        list(refine_files_on_device(find_jobs(*folders), settings, CPU, 2))


def test_pydensecrf_is_refused(folders):
    settings = CrfSettings(backend="pydensecrf")
    with pytest.raises(ValueError, match="backend 'pydensecrf' runs on the CPU alone, not on cpu"):
        list(refine_files_on_device(find_jobs(*folders), settings, CPU))
    assert not folders[2].exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(folders, capsys):
    arguments = ["refine", *map(str, folders[:2]), "--output", str(folders[2]), "--workers", "1"]
    assert main([*arguments, "--device", "cuda"]) == 1
    assert "getam: error: device: GPU 0 is asked for" in capsys.readouterr().err
    assert main([*arguments, "--device", "auto"]) == 0
    assert len(list(folders[2].iterdir())) == len(CASES)
