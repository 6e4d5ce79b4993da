"""Scores by group of images, and intervals of differences; paintings of saliency, average precision."""

import numpy as np
import pytest

from benchmarks.studies.painting import average_precision, painted
from benchmarks.studies.paired import columns, counts_of, groups_of, interval, miou
from getam.data.dataset import Split
from getam.data.images import read_mask, write_grey, write_mask
from getam.evaluation.metrics import ConfusionMatrix


@pytest.fixture
def split(tmp_path) -> Split:
    """Forty images of two classes, every fourth with both."""
    generator = np.random.default_rng(0)
    labels = np.zeros((40, 2), np.float32)
    for i in range(40):
        labels[i, i % 2] = 1
        if i % 4 == 0:
            labels[i] = 1
        present = [0, *(np.flatnonzero(labels[i]) + 1), 255]
        write_mask(tmp_path / "masks" / f"{i}.png", generator.choice(present, (8, 9)).astype(np.uint8))
        write_mask(tmp_path / "images" / f"{i}.png", np.zeros((8, 9), np.uint8))
        salient = generator.choice([0, 255], (8, 9)).astype(np.uint8)
        write_grey(tmp_path / "saliency" / f"{i}.png", salient)
    ids = tuple(str(i) for i in range(40))
    return Split("val", ids, labels, tmp_path / "images", ".png", tmp_path / "masks")


def guesses(split: Split, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.choice([0, 1, 2, 255], (8, 9)).astype(np.uint8) for name in split.ids}


def test_groups_are_scored_as_data_sets_of_their_own(split):
    guessed = guesses(split, 1)
    counts = counts_of(split, 2, guessed.get)
    groups = groups_of(split)
    assert {name: int(chosen.sum()) for name, chosen in groups.items()} == {
        "all": 40,
        "one class": 30,
        "several classes": 10,
    }
    for chosen in groups.values():
        matrix = ConfusionMatrix(3, unknown=True)
        for name in np.array(split.ids)[chosen]:
            matrix.update(read_mask(split.mask(name)), guessed[name])
        assert miou(counts[chosen].sum(0)) == pytest.approx(100 * matrix.miou())


def test_a_class_without_pixels_is_left_out():
    assert miou(np.array([[3, 1, 0], [1, 3, 0], [0, 0, 0]])) == pytest.approx(60)


def test_intervals(split):
    first, second = (counts_of(split, 2, guesses(split, seed).get) for seed in (1, 2))
    low, high = interval([(first, second)])
    assert low < miou(first.sum(0)) - miou(second.sum(0)) < high
    assert interval([(first, second)]) == (low, high)
    assert interval([(second, first)]) == pytest.approx((-high, -low))
    assert interval([(first, first)]) == (0, 0)
    # What both have in common does not widen the interval: here they differ in one row of pixels.
    mixed = {name: np.concatenate([guesses(split, 2)[name][:1], guesses(split, 1)[name][1:]]) for name in split.ids}
    narrow = np.subtract(*interval([(counts_of(split, 2, mixed.get), first)]))
    assert 0 < -narrow < (high - low) / 2


def test_the_interval_holds_what_it_says():
    """Of 200 pairs of labellings that are equally good, about 95% have an interval that holds zero."""
    generator = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        right = generator.binomial(50, generator.uniform(0.2, 0.8, (2, 60)))
        pairs = [np.stack([[[50 - r, r], [r, 50 - r]] for r in of_one]) for of_one in right]
        low, high = interval([(pairs[0], pairs[1])])
        held += low <= 0 <= high
    assert 178 <= held <= 200


def test_columns(split):
    runs = [counts_of(split, 2, guesses(split, seed).get) for seed in (1, 2)]
    row = columns(runs, None, groups_of(split))
    assert float(row["all"]) == pytest.approx(np.mean([miou(counts.sum(0)) for counts in runs]), abs=0.051)
    assert row["difference, one class"] == ""
    assert columns(runs, runs, groups_of(split))["difference, all"] == "+0.0 [+0.0, +0.0]"


def test_paintings(split, tmp_path):
    paint = painted(split, tmp_path / "saliency", lambda i: int(split.labels[i].argmax()))
    found = paint("3")
    assert set(np.unique(found)) == {0, 2}
    assert set(np.unique(paint("4"))) == {0, 1}


def test_average_precision():
    labels = np.array([1, 0, 1, 0, 0])
    assert average_precision(np.array([5.0, 4, 3, 2, 1]), labels) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([1.0, 2, 3, 4, 5]), labels) == pytest.approx((1 / 3 + 2 / 5) / 2)
    assert np.isnan(average_precision(np.array([1.0]), np.array([0])))
