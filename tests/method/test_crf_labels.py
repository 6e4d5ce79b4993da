"""Labels of RRM against a plain loop over the pixels, with pydensecrf's marginals."""

import numpy as np
import pytest
import torch

from getam.method.crf_labels import crf_labels

densecrf = pytest.importorskip("pydensecrf.densecrf")


def marginals(image, scores):
    labels, height, width = scores.shape
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(np.maximum(scores, 1e-5)).reshape(labels, -1), dtype=np.float32))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=np.ascontiguousarray(image), compat=10)
    return np.array(crf.inference(10)).reshape(scores.shape)


def expected(maps, image, saliency, labels):
    height, width = saliency.shape
    present = np.flatnonzero(labels)
    own = maps[present]
    strongest = own.max(0) if len(own) else np.zeros((height, width), np.float32)
    high = marginals(image, np.stack([(1 - strongest) ** 4, *own]))
    low = marginals(image, np.stack([(1 - strongest) ** 32, *own]))
    result = np.full((height, width), 255)
    for y in range(height):
        for x in range(width):
            winner = high[:, y, x].argmax()
            if low[:, y, x].argmax() == 0 and low[0, y, x] >= 0.8:
                result[y, x] = 0
            if winner and high[winner, y, x] >= 0.8:
                c = present[winner - 1]
                rivals = np.sort(maps[c][(high.argmax(0) == winner) & (maps[c] > 0.1)])
                if len(rivals) and maps[c, y, x] > rivals[int(0.6 * len(rivals))]:
                    result[y, x] = c + 1
            if not saliency[y, x]:
                result[y, x] = 0
    return result


def test_against_a_loop():
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :48]
    images, maps = [], np.zeros((3, 4, 40, 48), np.float32)
    labels = np.array([[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    for i in range(3):
        disc = (rows - 15) ** 2 + (columns - 14) ** 2 < 90
        square = (abs(rows - 26) < 9) & (abs(columns - 36) < 8)
        image = np.array([30, 60, 160]) + disc[..., None] * [190, 0, -90] + square[..., None] * [0, 150, 0]
        images.append((image + generator.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8))
        for c, region in ((1, disc), (3, square), (0, disc | square)):
            if labels[i, c]:
                blob = np.exp(
                    -(((rows - rows[region].mean()) / 12) ** 2) - ((columns - columns[region].mean()) / 12) ** 2
                )
                maps[i, c] = blob / (blob.max() + 1e-5)
    saliency = np.ones((3, 40, 48), np.uint8)
    saliency[:, :, :10] = 0
    found = crf_labels(
        torch.from_numpy(maps),
        torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
        torch.from_numpy(saliency),
        torch.from_numpy(labels),
    )
    truth = np.stack([expected(maps[i], images[i], saliency[i], labels[i]) for i in range(3)])
    assert (found.numpy() == truth).mean() > 0.999
    assert set(np.unique(found[0])) == {0, 2, 4, 255}
    assert set(np.unique(found[2])) == {0}
