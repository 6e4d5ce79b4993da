"""Scores of raw maps, against cutting them one threshold at a time."""

import csv

import numpy as np
import pytest
import torch

from getam.config.experiment_file import load_experiment
from getam.data.augmentation import centred_view
from getam.data.images import read_image, read_mask
from getam.evaluation.map_scores import ThresholdedConfusion
from getam.evaluation.metrics import ConfusionMatrix
from getam.evaluation.run import Run
from getam.method.activation import activation_maps
from getam.models.backbones import normalise_images
from getam.training.launch import train


def test_every_threshold_as_if_it_were_the_only_one():
    generator = np.random.default_rng(0)
    thresholds = np.array([0.1, 0.25, 0.5, 0.9])
    confusion = ThresholdedConfusion(3, thresholds)
    expected = [ConfusionMatrix(4) for _ in thresholds]
    for height, width in ((5, 7), (1, 1), (8, 3)):
        truth = generator.choice([0, 1, 2, 3, 255], (height, width)).astype(np.uint8)
        # Values that lie on a threshold are not above it.
        maps = generator.choice([0, 0.1, 0.2, 0.25, 0.3, 0.5, 0.7, 0.9, 1], (3, height, width))
        confusion.update(truth, maps)
        for threshold, matrix in zip(thresholds, expected, strict=True):
            matrix.update(truth, np.where(maps.max(0) > threshold, maps.argmax(0) + 1, 0))
    for found, matrix in zip(confusion.matrices(), expected, strict=True):
        assert np.array_equal(found.counts, matrix.counts)


@pytest.mark.parametrize("method", ["getam", "cam"])
def test_of_a_run(small_experiment, tmp_path, method):
    """Images of the training crop's size, whose maps need no second resizing: the library's own maps, cut by hand."""
    settings = load_experiment(small_experiment, {"maps.method": method})
    train(settings, tmp_path, workers=0)
    run = Run(tmp_path)
    scores = run.score_maps("test", torch.device("cpu"), batch=3)
    split, network = run.dataset.split("test"), run.load_network(torch.device("cpu"))
    expected = ConfusionMatrix(len(run.dataset.classes) + 1)
    best = scores.best()
    for name, labels in zip(split.ids, torch.from_numpy(split.labels), strict=True):
        image = read_image(split.image(name))
        view = centred_view(image, np.zeros(image.shape[:2], np.uint8), settings.training.crop)
        maps = activation_maps(
            network,
            normalise_images(view.image_rgb[None]),
            labels[None],
            method,
            settings.start_layer,
            heads=settings.recipe.heads,
        )
        maps = torch.nn.functional.interpolate(maps, image.shape[:2], mode="bilinear", align_corners=True)[0]
        maps = maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-30)
        value, category = maps.max(0)
        cut = torch.where(value > scores.thresholds[best], category + 1, 0)
        expected.update(read_mask(split.mask(name)), cut.numpy())
    found = scores.scores[best].counts
    # Maps of a batch round otherwise than those of one image.
    assert abs(found[:, :-1] - expected.counts).sum() <= 0.001 * expected.counts.sum()
    assert not found[:, -1].any()
    folder = run.folder / "test"
    rows = list(csv.reader((folder / "map_iou_thresholds.csv").read_text().splitlines()))
    assert max(float(miou) for _, miou in rows[1:]) == scores.scores[best].miou()
    assert f"mIoU,{scores.scores[best].miou()}" in (folder / "map_iou.csv").read_text()
