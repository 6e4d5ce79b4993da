import csv
from dataclasses import replace

import numpy as np
import pytest

from getam import open_dataset
from getam.data.images import read_mask, write_mask
from getam.evaluation.scores import read_summary, score_masks, worst_images, write_score

CLASSES = 5


@pytest.fixture
def masks(small_shapes, tmp_path):
    """(split, truths, predictions, folder): predictions are noise with some unknown pixels; label 4 is nowhere."""
    split = open_dataset(small_shapes / "dataset").split("val")
    generator = np.random.default_rng(0)
    truths, predictions = [], []
    for name in split.ids:
        truth = read_mask(split.mask(name))
        noise = generator.choice([0, 1, 2, 3, 5, 255], truth.shape)
        prediction = np.where(generator.random(truth.shape) < 0.6, np.where(truth == 255, 0, truth), noise)
        prediction = np.where(prediction == 4, 0, prediction).astype(np.uint8)
        write_mask(tmp_path / "masks" / f"{name}.png", prediction)
        truths.append(truth)
        predictions.append(prediction)
    return split, np.stack(truths), np.stack(predictions), tmp_path / "masks"


@pytest.mark.parametrize("workers", [1, 2])
def test_scores_by_hand(masks, workers):
    split, truth, prediction, folder = masks
    score = score_masks(split, [f"class {c}" for c in range(1, CLASSES + 1)], folder, workers)
    counted = truth != 255
    iou = []
    for label in range(CLASSES + 1):
        hit = (truth == label) & (prediction == label) & counted
        either = ((truth == label) | (prediction == label)) & counted
        iou.append(hit.sum() / either.sum())
    assert score.iou() == pytest.approx(iou)
    assert score.miou() == pytest.approx(np.mean(iou))
    assert score.labelled() == pytest.approx((prediction != 255)[counted].mean())
    assert score.summary()["pixel accuracy"] == pytest.approx((truth == prediction)[counted].mean())
    frequencies = [(truth == label).sum() / counted.sum() for label in range(CLASSES + 1)]
    assert score.summary()["frequency weighted IoU"] == pytest.approx(np.dot(frequencies, iou))
    assert score.counts[:, :-1].sum() == ((prediction != 255) & counted).sum()


def test_worst_images(masks):
    split, truths, predictions, folder = masks
    score_of = {}
    for name, truth, prediction in zip(split.ids, truths, predictions, strict=True):
        counted = truth != 255
        ious = []
        for label in range(CLASSES + 1):
            hit = (truth == label) & (prediction == label) & counted
            either = ((truth == label) | (prediction == label)) & counted
            ious += [hit.sum() / either.sum()] if either.any() else []
        score_of[name] = np.mean(ious)
    expected = sorted(score_of, key=score_of.get)
    classes = [f"class {c}" for c in range(1, CLASSES + 1)]
    assert worst_images(split, classes, folder, 3) == expected[:3]
    assert worst_images(split, classes, folder, 99) == expected


def test_files(masks, tmp_path):
    split, truth, _, folder = masks
    score = score_masks(split, list("abcde"), folder)
    path = write_score(tmp_path, score)
    rows = dict(list(csv.reader(path.read_text().splitlines()))[1:])
    assert list(rows)[:6] == ["background", *"abcde"]
    assert float(rows["c"]) == score.iou()[3]
    assert read_summary(path) == score.summary()
    confusion = list(csv.reader((tmp_path / "iou_confusion.csv").read_text().splitlines()))
    assert sum(int(cell) for row in confusion[1:] for cell in row[1:]) == (truth != 255).sum()
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no line 'mIoU'"):
        read_summary(tmp_path / "other.csv")


def test_an_empty_class_is_left_out(masks):
    split, _, _, folder = masks
    score = score_masks(split, list("abcdefg"), folder)
    assert np.isnan(score.iou()[-2:]).all()
    assert score.miou() == pytest.approx(np.mean(score.iou()[:-2]))


def test_mistakes(masks):
    split, _, _, folder = masks
    with pytest.raises(ValueError, match="label 5 is not among the 3 labels"):
        score_masks(split, ["a", "b"], folder)
    write_mask(folder / f"{split.ids[3]}.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(ValueError, match=f"{split.ids[3]}.png: expected 32 x 32 pixels"):
        score_masks(split, list("abcde"), folder)
    (folder / f"{split.ids[3]}.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 of the 9 masks of split .val. are missing: .*{split.ids[3]}\.png"):
        score_masks(split, list("abcde"), folder)
    with pytest.raises(ValueError, match="split 'val' has no masks"):
        score_masks(replace(split, masks=None), list("abcde"), folder)
