"""One confusion matrix over a data set, against sets of pixels and the released code's scores."""

import numpy as np
import pytest

from getam import ConfusionMatrix


def test_equals_sets_of_pixels():
    rng = np.random.default_rng(0)
    images = [(rng.integers(0, 4, shape), rng.integers(0, 4, shape)) for shape in ((5, 7), (3, 3))]
    matrix = ConfusionMatrix(5)  # class 4 never occurs
    for target, prediction in images:
        target[0, 0] = 255
        flipped = np.ascontiguousarray(prediction[:, ::-1])
        flipped.flags.writeable = False
        matrix.update(target, flipped[:, ::-1])  # neither strides nor flags matter
    true, predicted = (np.concatenate([pair[i].ravel() for pair in images]) for i in (0, 1))
    counted = true != 255
    expected = []
    for c in range(4):
        a, b = (set(np.flatnonzero(counted & (x == c))) for x in (true, predicted))
        expected.append(len(a & b) / len(a | b))
    np.testing.assert_allclose(matrix.iou(), [*expected, np.nan])
    assert matrix.miou() == pytest.approx(np.mean(expected))


def test_released_scores(golden_folder):
    with np.load(golden_folder / "vitb_hybrid.npz") as expected:
        matrix = ConfusionMatrix(21)
        matrix.update(expected["eval_gt"], expected["eval_pred"])
        assert matrix.miou() == pytest.approx(float(expected["eval_miou"]), rel=1e-9)
        assert matrix.frequency_weighted_iou() == pytest.approx(float(expected["eval_fwiou"]), rel=1e-9)
        assert matrix.accuracy() == pytest.approx(float(expected["eval_acc"]), rel=1e-9)


def test_nothing_counted():
    matrix = ConfusionMatrix(2)
    matrix.update(np.full((2, 2), 255), np.zeros((2, 2)))
    assert np.isnan([matrix.miou(), matrix.frequency_weighted_iou(), matrix.accuracy()]).all()


def test_unknown_predictions_are_missed_by_their_class():
    rng = np.random.default_rng(1)
    target, prediction = rng.choice([0, 1, 2, 255], (6, 8)), rng.choice([0, 1, 2, 255], (6, 8))
    matrix = ConfusionMatrix(3, unknown=True)
    matrix.update(target, prediction)
    counted = target != 255
    for c in range(3):
        hit, either = (x & counted for x in ((target == c) & (prediction == c), (target == c) | (prediction == c)))
        assert matrix.iou()[c] == pytest.approx(hit.sum() / either.sum())
    assert matrix.accuracy() == pytest.approx((target == prediction)[counted].mean())
    assert matrix.counts[:, 3].sum() == ((prediction == 255) & counted).sum() > 0
    with pytest.raises(ValueError, match="prediction: label 3 is not among the 3 classes"):
        matrix.update(np.zeros((1, 1)), np.full((1, 1), 3))


def test_refusals():
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=r"target \(2, 2\) and prediction \(2, 3\) differ in shape"):
        matrix.update(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="target: label 3 is not among the 3 classes"):
        matrix.update(np.full((1, 1), 3), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="prediction: label 255 is not among the 3 classes"):
        matrix.update(np.zeros((1, 1)), np.full((1, 1), 255))
    with pytest.raises(ValueError, match="prediction: expected whole numbers"):
        matrix.update(np.zeros((1, 1)), np.full((1, 1), 0.7))
    with pytest.raises(ValueError, match="num_classes: expected at least 1"):
        ConfusionMatrix(0)
