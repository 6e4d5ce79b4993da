"""getam_lattice's `densecrf` and `utils` against pydensecrf's, call by call; and their errors."""

import numpy as np
import pytest
from skimage import data

import getam_lattice.densecrf as ours
from getam_lattice import utils
from tests.helpers import lattice_oracle

LABELS, HEIGHT, WIDTH = 6, 60, 50
POINTS = HEIGHT * WIDTH
NORMALIZATIONS = ("NO_NORMALIZATION", "NORMALIZE_BEFORE", "NORMALIZE_AFTER", "NORMALIZE_SYMMETRIC")
KERNELS = ("CONST_KERNEL", "DIAG_KERNEL", "FULL_KERNEL")
IMAGE = np.ascontiguousarray(data.astronaut()[: 4 * HEIGHT : 4, : 4 * WIDTH : 4])


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip("pydensecrf.densecrf")


@pytest.fixture(scope="module")
def their_utils():
    return pytest.importorskip("pydensecrf.utils")


def random_energies(labels=LABELS, points=POINTS, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 3, (labels, points)).astype(np.float32)


def compatibility(kind: str, labels: int = LABELS) -> float | np.ndarray:
    generator = np.random.default_rng(1)
    return {
        "number": 2.5,
        "negative": -0.5,
        "vector": -generator.uniform(0, 4, labels).astype(np.float32),
        # Neither symmetric nor of one sign.
        "matrix": generator.standard_normal((labels, labels)).astype(np.float32),
    }[kind]


def assert_alike(found, expected, tolerance=1e-5):
    expected = np.array(expected)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < tolerance


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("kind", ["number", "negative", "vector", "matrix"])
def test_images(theirs, kind, normalization, kernel):
    results = []
    # Without normalisation the messages are sums over hundreds of pixels.
    factor = np.float32(0.01 if normalization == "NO_NORMALIZATION" else 1)
    for module in (theirs, ours):
        crf = module.DenseCRF2D(WIDTH, HEIGHT, LABELS)
        crf.setUnaryEnergy(random_energies())
        options = (getattr(module, kernel), getattr(module, normalization))
        crf.addPairwiseGaussian((3, 2), factor * compatibility(kind), *options)
        crf.addPairwiseBilateral((20, 30.5), (13, 14, 15.5), IMAGE, factor * compatibility(kind), *options)
        results.append(np.array(crf.inference(5)))
    assert_alike(results[1], results[0], 3e-5)


@pytest.mark.parametrize("kind", ["number", "vector", "matrix"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5, 6])
def test_any_features(theirs, dimensions, normalization, kind):
    generator = np.random.default_rng(2)
    features = generator.uniform(0, 5, (dimensions, POINTS)).astype(np.float32)
    factor = np.float32(0.002 if normalization == "NO_NORMALIZATION" else 1)
    results = []
    for module in (theirs, ours):
        crf = module.DenseCRF(POINTS, LABELS)
        crf.setUnaryEnergy(random_energies())
        crf.addPairwiseEnergy(
            features,
            compat=factor * compatibility(kind),
            kernel=module.FULL_KERNEL,
            normalization=getattr(module, normalization),
        )
        results.append(np.array(crf.inference(4)))
    assert_alike(results[1], results[0], 3e-5)


@pytest.mark.parametrize("labels", [1, 2, 8, 9, 21, 81])
def test_any_number_of_labels(theirs, labels):
    results = []
    for module in (theirs, ours):
        crf = module.DenseCRF2D(WIDTH, HEIGHT, labels)
        crf.setUnaryEnergy(random_energies(labels))
        crf.addPairwiseBilateral(sxy=20, srgb=13, rgbim=IMAGE, compat=compatibility("matrix", labels) / labels)
        results.append(np.array(crf.inference(3)))
    assert_alike(results[1], results[0])


@pytest.mark.parametrize("kind", ["number", "vector", "matrix"])
def test_steps_and_divergence(theirs, kind):
    crfs = []
    for module in (theirs, ours):
        crf = module.DenseCRF2D(WIDTH, HEIGHT, LABELS)
        crf.setUnaryEnergy(random_energies())
        crf.addPairwiseGaussian(sxy=3, compat=compatibility(kind))
        crf.addPairwiseBilateral(sxy=20, srgb=13, rgbim=IMAGE, compat=1, normalization=module.NORMALIZE_AFTER)
        crfs.append((crf, *crf.startInference()))
    (their_crf, their_q, *theirs_kept), (our_crf, our_q, *ours_kept) = crfs
    for _ in range(4):
        assert_alike(our_q, their_q)
        assert our_crf.klDivergence(our_q) == pytest.approx(their_crf.klDivergence(their_q), rel=1e-5)
        their_crf.stepInference(their_q, *theirs_kept)
        our_crf.stepInference(our_q, *ours_kept)
    assert np.abs(our_q - our_crf.inference(4)).max() < 1e-5
    for kept in (*theirs_kept, *ours_kept):
        assert np.array(kept).shape == (0, 0)


def test_without_unary_energies(theirs):
    results = []
    for module in (theirs, ours):
        crf = module.DenseCRF2D(WIDTH, HEIGHT, LABELS)
        crf.addPairwiseGaussian(sxy=3, compat=compatibility("vector"))
        q, first, second = crf.startInference()
        start = np.array(q)
        crf.stepInference(q, first, second)
        results.append((start, np.array(q), np.array(crf.inference(3)), crf.klDivergence(q)))
    for expected, found in zip(*results, strict=True):
        assert found == pytest.approx(expected, abs=1e-5, rel=1e-5)


def test_without_pairwise_energies(theirs):
    for iterations in (0, 3):
        results = []
        for module in (theirs, ours):
            crf = module.DenseCRF(POINTS, LABELS)
            crf.setUnaryEnergy(random_energies())
            results.append(np.array(crf.inference(iterations)))
        assert_alike(results[1], results[0], 1e-6)


def test_unary_objects(theirs):
    weights, features = random_energies(LABELS, 4), random_energies(4, POINTS)
    for name, arguments in (("ConstUnary", (random_energies(),)), ("LogisticUnary", (weights, features))):
        results = []
        for module in (theirs, ours):
            crf = module.DenseCRF(POINTS, LABELS)
            crf.setUnary(getattr(module, name)(*arguments))
            results.append(np.array(crf.inference(1)))
        assert_alike(results[1], results[0], 1e-5)
    crf = ours.DenseCRF(POINTS, LABELS)
    crf.setUnaryEnergy(weights, features)
    assert_alike(crf.inference(1), results[0])


def test_energies_are_copied_and_replaced():
    energies = random_energies()
    crf = ours.DenseCRF(POINTS, LABELS)
    crf.setUnaryEnergy(energies)
    expected = crf.inference(0)
    energies[:] = 0
    assert np.array_equal(crf.inference(0), expected)
    crf.setUnaryEnergy(energies)
    assert np.abs(crf.inference(0) - 1 / LABELS).max() < 1e-6


def test_excluded_labels():
    energies = random_energies()
    energies[2] = np.inf
    crf = ours.DenseCRF2D(WIDTH, HEIGHT, LABELS)
    crf.setUnaryEnergy(energies)
    crf.addPairwiseGaussian(sxy=3, compat=3)
    found = crf.inference(5)
    assert found[2].max() < 1e-20
    assert np.isfinite(found).all()


def test_against_dense_matrices():
    # Without pydensecrf, too: the signs of compatibilities, symmetric matrices, x before y.
    height, width = 8, 9
    energies, image = random_energies(LABELS, height * width), IMAGE[:height, :width].copy()
    matrix, vector = compatibility("matrix"), compatibility("vector")
    crf = ours.DenseCRF2D(width, height, LABELS)
    crf.setUnaryEnergy(energies)
    crf.addPairwiseGaussian((3, 2), vector, normalization=ours.NORMALIZE_BEFORE)
    crf.addPairwiseBilateral((6, 5), (37, 38, 39), image, matrix, normalization=ours.NORMALIZE_AFTER)
    features = lattice_oracle.bilateral_features(image, 1, 1) / np.array([6, 5, 37, 38, 39])
    positions = lattice_oracle.bilateral_features(image, 1, 1)[:, :2] / np.array([3, 2])
    matrices = [
        (lattice_oracle.kernel_matrix(positions, "before"), -np.diag(vector)),
        (lattice_oracle.kernel_matrix(features, "after"), -(matrix + matrix.T) / 2),
    ]
    expected = lattice_oracle.mean_field_with(matrices, -energies.astype(float), 4)
    assert np.abs(crf.inference(4) - expected).max() < 1e-5


@pytest.mark.parametrize("threads", [2, 3])
def test_threads(threads):
    results = []
    for count in (1, threads):
        crf = ours.DenseCRF2D(WIDTH, HEIGHT, LABELS, threads=count)
        crf.setUnaryEnergy(random_energies())
        crf.addPairwiseBilateral(20, 13, IMAGE, 4)
        results.append(crf.inference(5))
    assert np.abs(results[1] - results[0]).max() < 1e-5


class TestUtils:
    @pytest.mark.parametrize("zero_unsure", [True, False])
    @pytest.mark.parametrize("gt_prob", [0.2, 0.7])
    @pytest.mark.parametrize("dtype", [np.uint8, np.int64])
    def test_unary_from_labels(self, their_utils, zero_unsure, gt_prob, dtype):
        labels = np.random.default_rng(3).integers(0, 5, (12, 13, 2)).astype(dtype)
        found = utils.unary_from_labels(labels, 5, gt_prob, zero_unsure)
        # pydensecrf fails where label 0 of an unsigned type is unknown.
        expected = their_utils.unary_from_labels(labels.astype(int), 5, gt_prob, zero_unsure)
        assert np.array_equal(found, expected)
        assert found.dtype == expected.dtype

    def test_unary_from_softmax(self, their_utils):
        sm = np.random.default_rng(4).dirichlet(np.ones(4), (6, 7)).transpose(2, 0, 1)
        sm[0, 0, 0] = 0
        for array in (sm, sm.astype(np.float32), np.ascontiguousarray(sm)):
            for options in ({}, {"scale": 0.7}, {"clip": 1e-3}, {"scale": 0.5, "clip": None}):
                found = utils.unary_from_softmax(array, **options)
                expected = their_utils.unary_from_softmax(array, **options)
                assert found == pytest.approx(expected, rel=1e-6)
                assert found.dtype == np.float32
                assert found.flags.c_contiguous

    def test_old_names(self, their_utils):
        labels = np.arange(12).reshape(3, 4) % 4
        sm = np.random.default_rng(5).dirichlet(np.ones(4), 9).T
        with pytest.warns(DeprecationWarning, match="use unary_from_labels"):
            assert np.array_equal(utils.compute_unary(labels, 4), their_utils.compute_unary(labels, 4))
        with pytest.warns(DeprecationWarning, match="use unary_from_softmax"):
            found = utils.softmax_to_unary(sm, 0.8)
        assert found == pytest.approx(their_utils.softmax_to_unary(sm, 0.8))

    @pytest.mark.parametrize("shape", [(7,), (7, 5), (4, 5, 6), (3, 4, 2, 3)])
    def test_features(self, their_utils, shape):
        sdims = tuple(1.5 + i for i in range(len(shape)))
        arguments = (sdims, shape)
        assert np.array_equal(
            utils.create_pairwise_gaussian(*arguments), their_utils.create_pairwise_gaussian(*arguments)
        )
        image = np.random.default_rng(6).random((*shape, 3))
        for array, schan, chdim in (
            (image, (0.1, 0.2, 0.3), len(shape)),
            (image, 0.1, len(shape)),
            (np.moveaxis(image, -1, 0), (0.1, 0.2, 0.3), 0),
            (image[..., 0], 0.1, -1),
            (image[..., 0], (0.1,), -1),
        ):
            found = utils.create_pairwise_bilateral(sdims, schan, array, chdim)
            assert np.array_equal(found, their_utils.create_pairwise_bilateral(sdims, schan, array, chdim))
            assert found.flags.c_contiguous

    def test_bad_input(self):
        labels = np.arange(5)
        wrong = [
            (AssertionError, lambda: utils.unary_from_labels(labels, 4, 1.0), "gt_prob: expected"),
            (AssertionError, lambda: utils.unary_from_softmax(np.ones((2, 3)), scale=2), "scale: expected"),
            (
                ValueError,
                lambda: utils.unary_from_labels(labels, 3, 0.5),
                "labels: expected 0 to 3 with n_labels=3 and zero_unsure=True, got 0 to 4",
            ),
            (ValueError, lambda: utils.unary_from_labels(labels, 4, 0.5, False), "expected 0 to 3 .* got 0 to 4"),
            (ValueError, lambda: utils.unary_from_labels(labels + 250, 21, 0.5, False), "got 250 to 254"),
            (ValueError, lambda: utils.unary_from_labels(labels / 2, 5, 0.5), r"pass labels.astype\(int\)"),
            (ValueError, lambda: utils.unary_from_labels(labels, 1, 0.5), "n_labels: expected a whole number from 2"),
            (ValueError, lambda: utils.unary_from_softmax(labels), "sm: expected floats"),
            (ValueError, lambda: utils.create_pairwise_gaussian((1,), (3, 4)), "sdims: expected 2 numbers"),
            (
                ValueError,
                lambda: utils.create_pairwise_bilateral((1, 1), 1, np.ones((3, 4, 3))),
                "sdims: expected 3 numbers.*chdim names the axis of the channels",
            ),
            (
                ValueError,
                lambda: utils.create_pairwise_bilateral((1, 1), (1, 1), np.ones((3, 4, 3)), 2),
                "schan: expected a number or 3 numbers",
            ),
        ]
        for kind, call, message in wrong:
            with pytest.raises(kind, match=message):
                call()


def filled() -> ours.DenseCRF2D:
    crf = ours.DenseCRF2D(WIDTH, HEIGHT, LABELS)
    crf.setUnaryEnergy(random_energies())
    return crf


WRONG = {
    "float64 energies": (
        lambda crf: crf.setUnaryEnergy(random_energies().astype(float)),
        r"u: expected a C-contiguous float32 array \(labels, variables\), got float64; pass u.astype\(np.float32\)",
    ),
    "transposed energies": (
        lambda crf: crf.setUnaryEnergy(random_energies(POINTS, LABELS).T),
        r"u: expected a C-contiguous .* got one with strides .*; pass np.ascontiguousarray\(u\)",
    ),
    "reversed energies": (lambda crf: crf.setUnaryEnergy(random_energies()[:, ::-1]), "np.ascontiguousarray"),
    "energies as an image": (
        lambda crf: crf.setUnaryEnergy(random_energies().reshape(LABELS, HEIGHT, WIDTH)),
        r"got 3 axes: \(6, 60, 50\); pass u.reshape\(u.shape\[0\], -1\)",
    ),
    "energies of other labels": (
        lambda crf: crf.setUnaryEnergy(random_energies(5)),
        r"u: expected shape \(6, 3000\), \(labels, variables\), got \(5, 3000\)",
    ),
    "energies that are NaN": (
        lambda crf: crf.setUnaryEnergy(np.nan * random_energies()),
        "u: expected numbers, got NaN",
    ),
    "logistic features of another size": (
        lambda crf: crf.setUnaryEnergy(random_energies(LABELS, 4), random_energies(5, POINTS)),
        r"f: expected shape \(4, 3000\), \(features, variables\), got \(5, 3000\)",
    ),
    "logistic features of another count": (
        lambda crf: crf.setUnaryEnergy(random_energies(LABELS, 4), random_energies(4, 7)),
        r"u: expected shape \(6, 3000\)",
    ),
    "a photograph in floats": (
        lambda crf: crf.addPairwiseBilateral(20, 13, IMAGE / 255, 4),
        r"rgbim: expected a C-contiguous uint8 array \(h, w, 3\), got float64; pass rgbim.astype\(np.uint8\), "
        "with values from 0 to 255",
    ),
    "a BGR view": (lambda crf: crf.addPairwiseBilateral(20, 13, IMAGE[..., ::-1], 4), "np.ascontiguousarray"),
    "a grey photograph": (lambda crf: crf.addPairwiseBilateral(20, 13, IMAGE[..., 0].copy(), 4), "got 2 axes"),
    "channels first": (
        lambda crf: crf.addPairwiseBilateral(20, 13, IMAGE.transpose(2, 0, 1).copy(), 4),
        r"rgbim: expected shape \(60, 50, 3\), \(h, w, 3\), got \(3, 60, 50\)",
    ),
    "width and height exchanged": (
        lambda crf: crf.addPairwiseBilateral(20, 13, IMAGE.transpose(1, 0, 2).copy(), 4),
        r"expected shape \(60, 50, 3\), .*got \(50, 60, 3\)",
    ),
    "a deviation of 0": (lambda crf: crf.addPairwiseGaussian(0, 3), r"sxy\[0\]: expected a number above 0, got 0"),
    "three deviations": (
        lambda crf: crf.addPairwiseGaussian((1, 2, 3), 3),
        "sxy: expected a number or 2 numbers, got 3",
    ),
    "features of other points": (
        lambda crf: crf.addPairwiseEnergy(random_energies(3, 7), 4),
        r"features: expected shape \(3, 3000\), \(features, variables\), got \(3, 7\)",
    ),
    "features that are infinite": (
        lambda crf: crf.addPairwiseEnergy(np.inf + random_energies(3), 4),
        "features: expected finite numbers",
    ),
    "features far apart": (lambda crf: crf.addPairwiseEnergy(1e6 * random_energies(3), 4), "sigma is too small"),
    "a compatibility of another size": (
        lambda crf: crf.addPairwiseGaussian(3, np.ones(5, np.float32)),
        r"compat: expected shape \(6,\)",
    ),
    "a compatibility in float64": (
        lambda crf: crf.addPairwiseGaussian(3, np.eye(6)),
        r"compat: expected a C-contiguous float32 array \(labels, labels\), got float64",
    ),
    "a compatibility with three axes": (
        lambda crf: crf.addPairwiseGaussian(3, np.ones((6, 6, 6), np.float32)),
        "compat: expected .* got 3 axes",
    ),
    "a compatibility that is NaN": (lambda crf: crf.addPairwiseGaussian(3, float("nan")), "compat: expected finite"),
    "an unknown normalisation": (lambda crf: crf.addPairwiseGaussian(3, 3, normalization=7), "7 is not a valid"),
    "an unknown kernel": (lambda crf: crf.addPairwiseGaussian(3, 3, kernel=7), "7 is not a valid KernelType"),
    "negative iterations": (lambda crf: crf.inference(-1), "niter: expected a whole number from 0, got -1"),
    "marginals in float64": (lambda crf: crf.stepInference(np.ones((LABELS, POINTS))), "Q: expected .* got float64"),
    "marginals of other points": (
        lambda crf: crf.klDivergence(random_energies(LABELS, 7)),
        r"Q: expected shape \(6, 3000\)",
    ),
    "no variables": (lambda crf: ours.DenseCRF(0, 3), "nvar: expected a whole number from 1, got 0"),
    "a negative width": (lambda crf: ours.DenseCRF2D(-2, -3, 3), "w: expected a whole number from 1, got -2"),
    "no labels": (lambda crf: ours.DenseCRF2D(2, 3, 0), "nlabels: expected a whole number from 1, got 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input(case):
    call, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        call(filled())


def test_what_is_no_array():
    crf = filled()
    with pytest.raises(TypeError, match=r"u: expected a C-contiguous float32 array .* got list; pass np.asarray\(u"):
        crf.setUnaryEnergy([[1.0]])
    with pytest.raises(TypeError, match="compat: expected .* got list"):
        crf.addPairwiseGaussian(3, [1.0, 2.0])
    with pytest.raises(TypeError, match="u: expected a ConstUnary or a LogisticUnary, got ndarray"):
        crf.setUnary(random_energies())
    read_only = random_energies()
    read_only.setflags(write=False)
    crf.setUnaryEnergy(read_only)
    with pytest.raises(ValueError, match="Q: expected an array that can be written to"):
        crf.stepInference(read_only)
