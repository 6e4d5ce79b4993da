"""The dense CRF: against mean-field inference with dense matrices in float64, and against pydensecrf."""

import numpy as np
import pytest
import torch
from skimage import data

from getam import bilateral_filter, dense_crf, dense_crf_batch
from getam.lattice import _native, torch_lattice
from getam.lattice.crf import _mean_field
from getam_lattice import library
from tests.helpers import lattice_oracle

SETTINGS = {"iterations": 5, "gaussian": (3.0, 3.0), "bilateral": (6.1, 37.0, 4.0)}


def random_case(labels=5, height=9, width=8, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """image (H, W, 3), probabilities (labels, H, W)."""
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, generator.dirichlet(np.ones(labels), (height, width)).transpose(2, 0, 1).astype(np.float32)


def photograph_case(name: str, labels: int = 21, present: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """A photograph of scikit-image at half its size, with smooth probabilities of a few labels and noise on all."""
    image = np.ascontiguousarray(getattr(data, name)()[::2, ::2])
    generator = torch.Generator().manual_seed(0)

    def smooth(side: int) -> torch.Tensor:
        noise = torch.randn(1, labels, side, side, generator=generator)
        return torch.nn.functional.interpolate(noise, size=image.shape[:2], mode="bicubic")[0]

    scores = 3 * smooth(5) + 0.5 * smooth(40)
    scores[present:] -= 8
    return image, scores.softmax(0).numpy()


@pytest.mark.parametrize("iterations", [0, 1, 5, 20])
def test_mean_field_with_dense_matrices(iterations):
    image, probabilities = random_case()
    settings = SETTINGS | {"iterations": iterations}
    expected = lattice_oracle.mean_field(image, probabilities, **settings)
    planes = torch.from_numpy(image).permute(2, 0, 1)
    found = {
        "default": dense_crf(image, probabilities, **settings),
        "every label": dense_crf(image, probabilities, **settings, negligible=0),
        "torch": torch_lattice.mean_field(planes, torch.from_numpy(probabilities), **settings),
    }
    for name, marginals in found.items():
        assert np.abs(marginals.numpy() - expected).max() < 1e-5, name


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("labels", [1, 2, 8, 9, 21, 32, 33, 81, 300])
def test_implementations_agree(labels, threads, instruction_set):
    image, probabilities = (torch.from_numpy(array) for array in random_case(labels, 40, 37))
    planes, settings = image.permute(2, 0, 1), (5, (3.0, 3.0), (20.0, 37.0, 4.0))
    expected = torch_lattice.mean_field(planes, probabilities, *settings)
    found = _native.mean_field(planes, probabilities, *settings, 0, threads, instruction_set)
    assert (found - expected).abs().max() < 2e-5
    assert (found.sum(0) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("photograph", ["astronaut", "coffee", "chelsea"])
def test_pydensecrf(photograph):
    pytest.importorskip("pydensecrf")
    image, probabilities = photograph_case(photograph)
    expected = dense_crf(image, probabilities, backend="pydensecrf")
    exact = dense_crf(image, probabilities, negligible=0)
    assert (exact.argmax(0) == expected.argmax(0)).double().mean() >= 0.9999
    assert (exact - expected).abs().max() < 1e-3
    default = dense_crf(image, probabilities)
    assert (default.argmax(0) == expected.argmax(0)).double().mean() >= 0.9995
    assert (default - expected).abs().max() < 2e-3


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("labels", [21, 81])
def test_negligible_labels(labels, threads):
    # Some labels are negligible from the start, more become so: rows shrink from 3 or 11 vectors to 1 on the way.
    image, probabilities = photograph_case("chelsea", labels)
    exact = dense_crf(image, probabilities, negligible=0, threads=threads)
    for negligible, tolerance in ((1e-3, 1e-4), (0.01, 2e-3), (0.05, 2e-2)):
        found = dense_crf(image, probabilities, negligible=negligible, threads=threads)
        assert 0 < (found - exact).abs().max() < tolerance
        assert (found.sum(0) - 1).abs().max() < 1e-5
        assert (found.argmax(0) == exact.argmax(0)).double().mean() > 0.9999
        assert (found > 0).all()  # left out or not, a label keeps its unary score


def test_negligible_labels_of_small_noisy_images():
    # The hardest kind: no neighbour supports what a pixel says. The bound is the one that dense_crf states.
    largest = 0.0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        height, width, labels = (int(generator.integers(low, high)) for low, high in ((4, 40), (4, 40), (9, 30)))
        image, _ = random_case(labels, height, width, seed)
        scores = generator.standard_normal((labels, height, width)) * generator.uniform(0.5, 6)
        scores[generator.integers(0, labels, labels // 2)] -= generator.uniform(0, 8)
        probabilities = torch.from_numpy(scores).softmax(0)
        exact, found = (dense_crf(image, probabilities, negligible=negligible) for negligible in (0, 0.01))
        largest = max(largest, float((found - exact).abs().max()))
    assert 0 < largest < 0.04


def test_every_label_negligible():
    image, _ = random_case()
    uniform = np.full((300, 9, 8), 1 / 300, np.float32)
    assert np.abs(dense_crf(image, uniform, **SETTINGS, negligible=0.5).numpy() - uniform).max() < 1e-6


def test_certain_probabilities():
    image, probabilities = random_case(3, 20, 20)
    certain = np.eye(3, dtype=np.float32)[probabilities.argmax(0)].transpose(2, 0, 1)
    # Without a first guess of more than 1e-20 a label cannot win.
    assert np.array_equal(dense_crf(image, certain).argmax(0).numpy(), certain.argmax(0))
    marginals = dense_crf(image, certain, negligible=0)
    assert torch.isfinite(marginals).all()
    assert (marginals.sum(0) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("compatibility", [100.0, 1e4])
def test_strong_compatibilities(compatibility):
    # Scores far beyond the range of exp.
    image, probabilities = random_case(21)
    settings = SETTINGS | {"gaussian": (3.0, compatibility), "bilateral": (6.1, 37.0, compatibility), "negligible": 0}
    marginals = dense_crf(image, probabilities, **settings)
    assert torch.isfinite(marginals).all()
    assert (marginals.sum(0) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (33, 65)])
@pytest.mark.parametrize("threads", [1, 100])
def test_thin_images(size, threads):
    image, probabilities = random_case(21, *size)
    expected = lattice_oracle.mean_field(image, probabilities, **SETTINGS) if max(size) == 1 else None
    marginals = dense_crf(image, probabilities, **SETTINGS, threads=threads)
    planes = torch.from_numpy(image).permute(2, 0, 1)
    in_torch = torch_lattice.mean_field(planes, torch.from_numpy(probabilities), **SETTINGS)
    assert (marginals - in_torch).abs().max() < 2e-3
    if expected is not None:
        assert np.abs(marginals.numpy() - expected).max() < 1e-5


def test_kinds_of_input():
    image, probabilities = random_case(5, 20, 30)
    expected = dense_crf(image, probabilities, **SETTINGS)
    assert expected.dtype == torch.float32
    assert expected.shape == (5, 20, 30)
    read_only = image.copy()
    read_only.setflags(write=False)
    variants = [
        (torch.from_numpy(image), torch.from_numpy(probabilities)),
        (read_only, probabilities),
        (image[..., ::-1].copy()[..., ::-1], np.asfortranarray(probabilities)),
        (image, torch.from_numpy(probabilities).permute(1, 2, 0).contiguous().permute(2, 0, 1)),
        (image, probabilities.astype(np.float64)),
        (image, torch.from_numpy(probabilities).requires_grad_()),
    ]
    for variant in variants:
        assert torch.equal(dense_crf(*variant, **SETTINGS), expected)
    for dtype, tolerance in ((torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
        low = torch.from_numpy(probabilities).to(dtype)
        assert (dense_crf(image, low, **SETTINGS) - expected).abs().max() < tolerance
    bgr = dense_crf(image[..., ::-1], probabilities, **SETTINGS)
    assert torch.equal(bgr, dense_crf(image[..., ::-1].copy(), probabilities, **SETTINGS))
    assert not torch.equal(bgr, expected)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_batch(threads):
    cases = [random_case(labels, *size) for labels, size in ((5, (9, 8)), (5, (30, 20)), (21, (17, 40)))]
    images, probabilities = zip(*cases, strict=True)
    found = dense_crf_batch(images, probabilities, threads=threads, **SETTINGS)
    for marginals, (image, p) in zip(found, cases, strict=True):
        assert (marginals - dense_crf(image, p, **SETTINGS)).abs().max() < 1e-5
    assert dense_crf_batch([], []) == []
    with pytest.raises(ValueError, match="zip"):
        dense_crf_batch(images[:2], probabilities)
    with pytest.raises(ValueError, match=r"image 1: probabilities: expected shape \(5, 30, 20\), got \(5, 9, 8\)"):
        dense_crf_batch(images[:2], [probabilities[0]] * 2)


def test_one_thread_per_image_whatever_their_number():
    image, probabilities = photograph_case("astronaut")
    alone = dense_crf(image, probabilities, threads=1)
    for marginals in dense_crf_batch([image] * 2, [probabilities] * 2, threads=2):
        assert torch.equal(marginals, alone)


def test_operator():
    image, probabilities = (torch.from_numpy(array) for array in random_case())
    planes = image.permute(2, 0, 1).float()
    torch.library.opcheck(_mean_field, (planes, probabilities, 3, [3.0, 3.0], [20.0, 5.0, 4.0], 0.01, 2))


def test_bad_input():
    image, probabilities = random_case()
    nan, negative = probabilities.copy(), probabilities.copy()
    nan[2, 3, 4], negative[0, 0, 0] = np.nan, -0.1
    wrong = [
        ((image[..., :2], probabilities), {}, r"image_rgb: expected uint8 \(H, W, 3\), got torch.uint8 \(9, 8, 2\)"),
        ((image.astype(np.float32), probabilities), {}, r"image_rgb: expected uint8 .* got torch.float32"),
        ((image, probabilities[:, :-1]), {}, r"probabilities: expected shape \(5, 9, 8\), got \(5, 8, 8\)"),
        ((image, probabilities[0]), {}, r"probabilities: expected floats \(C \+ 1, H, W\)"),
        ((image, (probabilities * 255).astype(np.uint8)), {}, r"probabilities: expected floats .* got torch.uint8"),
        ((image, nan), {}, "probabilities: expected values from 0 to 1"),
        ((image, negative), {}, "probabilities: expected values from 0 to 1"),
        ((image, probabilities / 2), {}, "probabilities: expected every pixel to sum to 1, got 0.5 to 0.5"),
        ((image[:0], probabilities[:, :0]), {}, "probabilities: expected at least one label and one pixel"),
        ((image, probabilities[:0]), {}, "probabilities: expected at least one label and one pixel"),
        ((image, probabilities), {"iterations": -1}, "iterations: expected a whole number from 0, got -1"),
        ((image, probabilities), {"gaussian": (3, 0)}, r"gaussian: expected \(sigma_xy, compatibility\), all above 0"),
        ((image, probabilities), {"bilateral": (83, 5)}, "bilateral: expected .* got"),
        ((image, probabilities), {"bilateral": (83, np.nan, 4)}, "bilateral: expected"),
        ((image, probabilities), {"bilateral": (83, 1e-7, 4)}, "sigma is too small"),
        ((image, probabilities), {"backend": "cuda"}, "backend: expected one of lattice, pydensecrf, got 'cuda'"),
        ((image, probabilities), {"negligible": 1}, "negligible: expected a probability below 1, got 1"),
        ((image, probabilities), {"threads": 0}, "threads: expected a whole number from 1, got 0"),
        ((image, probabilities), {"threads": 2**32}, "threads: expected a whole number from 1"),
        ((image, probabilities), {"iterations": 2**31}, "iterations: expected a whole number from 0"),
        ((image, probabilities), {"bilateral": (83, 5, 1e38)}, "bilateral: expected"),
    ]
    for arguments, settings, message in wrong:
        with pytest.raises(ValueError, match=message):
            dense_crf(*arguments, **settings)


def test_missing_pydensecrf(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydensecrf.densecrf", None)
    with pytest.raises(ImportError, match="pip install pydensecrf2"):
        dense_crf(*random_case(), backend="pydensecrf")


def test_library_of_other_sources(monkeypatch):
    monkeypatch.setattr(library, "_INTERFACE_VERSION", 0)
    library.library.cache_clear()
    try:
        with pytest.raises(ImportError, match="was built from other sources than these; `make setup`"):
            dense_crf(*random_case())
    finally:
        library.library.cache_clear()


def test_missing_library(monkeypatch, tmp_path):
    monkeypatch.delenv("GETAM_LIBRARY", raising=False)
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    library.library.cache_clear()
    try:
        with pytest.raises(ImportError, match=r"libgetam\.so is missing.*make setup.*apt-get install g\+\+"):
            dense_crf(*random_case())
    finally:
        library.library.cache_clear()


def test_numbers_of_numpy_as_settings():
    image, probabilities = random_case()
    expected = dense_crf(image, probabilities, 3, (2, 3), (4, 5, 6), negligible=0.0)
    settings = np.int64(3), np.array([2, 3], np.float32), tuple(np.float32([4, 5, 6]))
    assert torch.equal(dense_crf(image, probabilities, *settings, negligible=np.float32(0)), expected)
    planes, values = torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(probabilities)[None]
    filtered = bilateral_filter(planes, values, np.float32(5), np.int64(4))
    assert torch.equal(filtered, bilateral_filter(planes, values, 5.0, 4.0))
