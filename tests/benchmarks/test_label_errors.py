"""Every wrong pixel of a pseudo label has one cause: against the rules of `label_errors`, pixel by pixel."""

import numpy as np

from benchmarks.studies.label_errors import CAUSES, causes


def cause_of(truth, salient, first, mined, last):
    if last == truth:
        return None
    if mined == truth:
        return "opening"
    if first == truth:
        return "mining"
    if truth != 0 and not salient:
        return "saliency misses an object"
    if truth == 0 and salient:
        return "saliency marks background"
    return "maps name none" if first == 255 else "maps name another class"


def test_causes():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 4000)
    salient = generator.random(4000) < 0.5
    first, mined, last = generator.choice([0, 1, 2, 255], (3, 4000))
    first = np.where(salient, np.where(first == 0, 1, first), 0)  # as label completion does it
    found = causes(truth, salient, first, mined, last)
    expected = [cause_of(*pixel) for pixel in zip(truth, salient, first, mined, last, strict=True)]
    assert len(found) == len(CAUSES)
    for cause, mask in zip(CAUSES, found, strict=True):
        assert np.array_equal(mask, [of_pixel == cause for of_pixel in expected])
        assert mask.any()
