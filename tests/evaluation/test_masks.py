"""`getam refine`: folders of probabilities and images to masks."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from getam import dense_crf
from getam.cli.command import main
from getam.data.images import palette
from getam.evaluation.masks import Job, find_jobs, read_job, refine_files
from getam.lattice.settings import CrfSettings


@pytest.fixture
def folders(tmp_path):
    """probabilities/, images/ and the masks' folder, which is not there yet; three images of different sizes."""
    generator = np.random.default_rng(0)
    probabilities, images = tmp_path / "probabilities", tmp_path / "images"
    probabilities.mkdir()
    images.mkdir()
    for name, size, save in (
        ("a", (20, 30), lambda path, p: np.save(path.with_suffix(".npy"), p)),
        ("b.c", (33, 17), lambda path, p: np.savez_compressed(f"{path}.npz", probabilities=p)),
        ("d", (9, 8), lambda path, p: np.save(path.with_suffix(".npy"), p)),
    ):
        save(probabilities / name, generator.dirichlet(np.ones(4), size).transpose(2, 0, 1).astype(np.float16))
        kind = "RGB" if name != "d" else "L"
        Image.fromarray(generator.integers(0, 256, (*size, 3), np.uint8)).convert(kind).save(images / f"{name}.png")
    return probabilities, images, tmp_path / "made" / "masks"


def expected_mask(folders, name, **settings) -> np.ndarray:
    probabilities = np.load(next(folders[0].glob(f"{name}.np*")))
    if not isinstance(probabilities, np.ndarray):
        probabilities = probabilities["probabilities"]
    image = np.asarray(Image.open(folders[1] / f"{name}.png").convert("RGB"))
    return (
        dense_crf(image[..., ::-1] if settings.pop("bgr", False) else image, probabilities, **settings)
        .argmax(0)
        .numpy()
    )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_masks(folders, workers, capsys):
    assert main(["refine", *map(str, folders[:2]), "--output", str(folders[2]), "--workers", workers]) == 0
    output = capsys.readouterr()
    assert output.out == f"3 files in {folders[2]}\n"
    assert "3/3" in output.err
    assert sorted(path.name for path in folders[2].iterdir()) == ["a.png", "b.c.png", "d.png"]
    for name in ("a", "b.c", "d"):
        with Image.open(folders[2] / f"{name}.png") as mask:
            assert mask.mode == "P"
            assert mask.getpalette() == palette().flatten().tolist()
            assert np.array_equal(np.asarray(mask), expected_mask(folders, name))


def test_where_no_known_label_was_possible(folders):
    """Such pixels leave the choice to their neighbours."""
    probabilities = np.zeros((4, 1, 6), np.float32)
    probabilities[3] = 1
    probabilities[:, 0, 2:4] = [[0.1], [0.2], [0.3], [0.4]]
    np.save(folders[0] / "row.npy", probabilities)
    Image.fromarray(np.zeros((1, 6, 3), np.uint8)).save(folders[1] / "row.png")
    job = Job(folders[0] / "row.npy", folders[1] / "row.png", None, labels=(0, 2))
    _, found = read_job(job, CrfSettings())
    assert np.allclose(found[:, 0, 2:4], [[0.25], [0], [0.75], [0]])
    assert np.allclose(found[:, 0, :2], [[0.5], [0], [0.5], [0]])


def test_settings(folders):
    options = {
        "--iterations": ["3"],
        "--gaussian": ["2", "1"],
        "--bilateral": ["10", "30", "8"],
        "--negligible": ["0"],
        "--bgr": [],
        "--workers": ["1"],
    }
    arguments = [word for option, values in options.items() for word in (option, *values)]
    assert main(["refine", *map(str, folders[:2]), "--output", str(folders[2]), *arguments]) == 0
    settings = {"iterations": 3, "gaussian": (2, 1), "bilateral": (10, 30, 8), "negligible": 0, "bgr": True}
    assert np.array_equal(np.asarray(Image.open(folders[2] / "a.png")), expected_mask(folders, "a", **settings))
    assert not np.array_equal(expected_mask(folders, "a", **settings), expected_mask(folders, "a"))


def test_backend(folders):
    pytest.importorskip("pydensecrf")
    assert main(["refine", *map(str, folders[:2]), "--output", str(folders[2]), "--backend", "pydensecrf"]) == 0
    found = np.asarray(Image.open(folders[2] / "a.png"))
    assert np.array_equal(found, expected_mask(folders, "a", backend="pydensecrf"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_file_is_named_and_finished_masks_stay(folders, workers):
    probabilities, _, masks = folders
    np.save(probabilities / "d.npy", np.full((4, 9, 9), 0.25, np.float32))
    with pytest.raises(
        ValueError, match=r"d\.npy with .*d\.png: probabilities: expected shape \(4, 9, 8\), got \(4, 9, 9\)"
    ):
        list(refine_files(find_jobs(*folders), CrfSettings(), workers))
    done = sorted(path.name for path in masks.iterdir())
    assert set(done) <= {"a.png", "b.c.png"}
    if workers == 1:
        assert done == ["a.png", "b.c.png"]


def test_a_mask_appears_whole_or_not_at_all(folders, monkeypatch):
    def full_disk(self, path, format):
        path.write_bytes(b"the beginning")
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        list(refine_files(find_jobs(*folders), CrfSettings(), 1))
    assert list(folders[2].iterdir()) == []


def test_errors_before_any_work(folders, capsys):
    probabilities, images, masks = folders

    def error(*options: str) -> str:
        assert (
            main(["refine", str(probabilities), str(images), "--output", str(masks), "--workers", "1", *options]) == 1
        )
        return capsys.readouterr().err

    assert "iterations: expected a whole number from 0, got -1" in error("--iterations", "-1")
    assert "bilateral: expected (sigma_xy, sigma_rgb, compatibility), all above 0" in error(
        "--bilateral", "0", "5", "4"
    )
    (images / "d.png").rename(images / "e.png")
    assert f"{images} has no image for 1 of the probabilities: d" in error()
    (images / "e.png").rename(images / "d.PNG")
    assert "masks need a folder of their own" in error("--output", str(images.parent / "." / images.name))
    np.savez(probabilities / "a.npz", np.zeros(1))
    assert f"{probabilities} has two files for a: a.npy and a.npz" in error()
    assert not masks.exists()
    for path in probabilities.iterdir():
        path.unlink()
    assert f"{probabilities} holds no .npy or .npz file" in error()
    probabilities.rmdir()
    assert f"no folder {probabilities}" in error()
    with pytest.raises(SystemExit):
        error("--workers", "0")


def test_files_that_are_no_arrays_or_images(folders):
    probabilities, images, _ = folders
    good = (probabilities / "a.npy").read_bytes()
    broken = {
        b"no array": "a.npy cannot be read as an array",
        b"": "a.npy cannot be read as an array",
        good[:-100]: "a.npy cannot be read as an array",
    }
    for content, message in broken.items():
        (probabilities / "a.npy").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            list(refine_files(find_jobs(*folders), CrfSettings(), 1))
    np.save(probabilities / "a.npy", np.zeros((20, 30)))
    with pytest.raises(ValueError, match=r"a\.npy: expected \(C \+ 1, H, W\) with at most 255 labels, got \(20, 30\)"):
        list(refine_files(find_jobs(*folders), CrfSettings(), 1))
    np.save(probabilities / "a.npy", np.zeros((4, 20, 30), int))
    with pytest.raises(ValueError, match=r"a\.npy: expected floats, got int64"):
        list(refine_files(find_jobs(*folders), CrfSettings(), 1))
    np.save(probabilities / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy holds a Python object, such as a dictionary"):
        list(refine_files(find_jobs(*folders), CrfSettings(), 1))
    (probabilities / "a.npy").unlink()
    np.savez(probabilities / "a.npz", one=np.zeros(1), two=np.zeros(1))
    with pytest.raises(ValueError, match=r"a\.npz: expected one array, found 2"):
        list(refine_files(find_jobs(*folders), CrfSettings(), 1))
    (probabilities / "a.npz").unlink()
    (images / "b.c.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"b\.c\.png cannot be read as an image"):
        list(refine_files(find_jobs(*folders), CrfSettings(), 1))


def test_command(folders):
    found = subprocess.run([sys.executable, "-m", "getam.cli", "refine", "--help"], capture_output=True, text=True)
    assert found.returncode == 0
    assert "--negligible" in found.stdout


def test_hidden_files_are_skipped(folders):
    probabilities, images, _ = folders
    before = find_jobs(*folders)
    (probabilities / "._a.npy").write_bytes(b"what macOS leaves")
    (images / "._a.jpg").write_bytes(b"what macOS leaves")
    assert find_jobs(*folders) == before


def test_channels_last(folders):
    probabilities, _, _ = folders
    for path in probabilities.glob("*.npy"):
        np.save(path, np.load(path).transpose(1, 2, 0))
    with pytest.raises(
        ValueError, match=r"\(20, 30, \d+\) has the channels last.*save probabilities.transpose\(2, 0, 1\)"
    ):
        list(refine_files(find_jobs(*folders), CrfSettings(), 1))
