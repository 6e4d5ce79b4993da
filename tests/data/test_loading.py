"""Random views, batches that a resumed run sees again, and photographs to predict on."""

import shutil
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from getam import normalise_images
from getam.data import voc
from getam.data.augmentation import random_view
from getam.data.dataset import Split
from getam.data.images import write_grey
from getam.data.loading import EpochBatches, InferenceImages, TrainingImages, inference_images, training_batches


@pytest.fixture
def split(tmp_path) -> Split:
    """Seven images of different sizes, each with a saliency map that is a copy of its red channel's upper bit."""
    generator = np.random.default_rng(0)
    ids = [f"image{i}" for i in range(7)]
    for i, name in enumerate(ids):
        coarse = generator.integers(0, 256, (4, 5, 3), np.uint8)
        image = Image.fromarray(coarse).resize((60 + 7 * i, 40 + 3 * i), Image.Resampling.NEAREST)
        (tmp_path / "images").mkdir(exist_ok=True)
        image.save(tmp_path / "images" / f"{name}.png")
        write_grey(tmp_path / "saliency" / f"{name}.png", np.asarray(image)[..., 0] // 128 * 255)
    labels = generator.integers(0, 2, (7, 20)).astype(np.float32)
    return Split("train", tuple(ids), labels, tmp_path / "images", ".png", None)


def images_of(split: Split, **options) -> TrainingImages:
    return TrainingImages(split, split.images.parent / "saliency", crop=32, **options)


@pytest.mark.parametrize(("height", "width"), [(80, 60), (30, 100), (1, 40), (20, 20)])
def test_views(height, width):
    """Every pixel of a view is one of the resized image, flipped or not, at its place, or padding."""
    crop, lengths, flips = 40, set(), set()
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([255 * rows // max(height - 1, 1), 255 * columns // max(width - 1, 1), 0 * rows + 7], -1)
    image = image.astype(np.uint8)
    saliency = np.where(columns < width // 2, 255, 0).astype(np.uint8)
    for seed in range(60):
        view = random_view(image, saliency, crop, np.random.default_rng(seed))
        assert view.image_rgb.shape == (3, crop, crop)
        view = type(view)(view.image_rgb.permute(1, 2, 0).numpy(), view.saliency.numpy(), view.valid.numpy())
        inside = np.argwhere(view.valid)
        top, left = inside.min(0)
        bottom, right = inside.max(0) + 1
        assert view.valid[top:bottom, left:right].all()  # a box
        assert (view.image_rgb[~view.valid] == (124, 116, 104)).all()
        assert not view.saliency[~view.valid].any()
        if max(bottom - top, right - left) < crop:
            lengths.add(int(max(bottom - top, right - left)))
        for long_side in range(int(0.9 * crop), int(crop / 0.875) + 1):
            scale = long_side / max(height, width)
            size = max(1, round(width * scale)), max(1, round(height * scale))
            resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
            marked = [saliency[np.ix_(*indices)] for indices in _nearest(saliency.shape, size[::-1])]
            flip = _found(view, resized, marked, (top, bottom, left, right))
            if flip is not None:
                flips.add(flip)
                break
        else:
            pytest.fail(f"seed {seed}: the view is no part of the image at any size")
    assert flips == {False, True} or width == 1
    assert len(lengths) >= 2


def _nearest(lengths, targets) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of the nearest pixel, in whole numbers; twice, as halfway between two pixels both are right."""
    both = []
    for rounded in (lambda a, b: a // b, lambda a, b: -(-a // b) - 1):
        both.append(tuple(rounded((2 * np.arange(m) + 1) * n, 2 * m) for n, m in zip(lengths, targets, strict=True)))
    return both


def _found(view, resized, marked, box) -> bool | None:
    top, bottom, left, right = box
    for flip in (False, True):
        image, *saliency = (array[:, ::-1] if flip else array for array in (resized, *marked))
        for y in range(image.shape[0] - (bottom - top) + 1):
            for x in range(image.shape[1] - (right - left) + 1):
                part = slice(y, y + bottom - top), slice(x, x + right - left)
                difference = np.abs(image[part].astype(int) - view.image_rgb[top:bottom, left:right])
                seen = view.saliency[top:bottom, left:right]
                if difference.max() <= 1 and np.logical_or(*(seen == nearest[part] for nearest in saliency)).all():
                    return flip
    return None


def test_sizes_and_places_are_random():
    image, saliency = np.zeros((50, 100, 3), np.uint8), np.zeros((50, 100), np.uint8)
    views = [random_view(image, saliency, 70, np.random.default_rng(seed)) for seed in range(400)]
    boxes = [np.argwhere(view.valid.numpy()) for view in views]
    widths = np.array([np.ptp(box[:, 1]) + 1 for box in boxes])
    # The long side is uniform on 63..80; above the crop it is cut to 70.
    assert set(widths) == set(range(63, 71))
    assert (widths == 70).mean() == pytest.approx(11 / 18, abs=0.08)
    tops = np.array([box[:, 0].min() for box in boxes])
    assert tops.min() == 0
    assert tops.max() > 30


def test_padding_is_zero_for_the_network(split):
    sample = images_of(split)[0, 0]
    assert not sample["valid"].all()
    network_input = normalise_images(sample["image_rgb"][None]) * sample["valid"]
    assert not network_input[0, :, ~sample["valid"]].any()


def test_an_item_depends_on_seed_epoch_and_image_alone(split):
    images = images_of(split, seed=3)
    first = images[2, 5]["image_rgb"]
    images[0, 1], images[7, 5]
    assert torch.equal(images_of(split, seed=3)[2, 5]["image_rgb"], first)
    others = [images[3, 5], images[2, 4], images_of(split, seed=4)[2, 5]]
    assert all(not torch.equal(other["image_rgb"], first) for other in others)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_the_same_batches(split, workers):
    def batches(first_step: int, workers: int) -> list[dict]:
        chosen = EpochBatches(len(split), batch_size=2, epochs=3, seed=1, first_step=first_step)
        return list(training_batches(images_of(split, seed=1), chosen, workers))

    whole, rest = batches(0, 0), batches(4, workers)
    assert len(whole) == 9
    assert len(rest) == 5
    for expected, found in zip(whole[4:], rest, strict=True):
        assert expected["id"] == found["id"]
        for key in ("image_rgb", "saliency", "valid", "labels"):
            assert torch.equal(expected[key], found[key])
    assert whole[0]["image_rgb"].shape == (2, 3, 32, 32)
    assert whole[0]["image_rgb"].dtype == torch.uint8
    assert whole[0]["valid"].dtype == torch.bool


def test_epochs():
    batches = list(EpochBatches(10, batch_size=3, epochs=4))
    for epoch in range(4):
        seen = [i for batch in batches[3 * epoch : 3 * epoch + 3] for _, i in batch]
        assert len(set(seen)) == 9
        assert {e for batch in batches[3 * epoch : 3 * epoch + 3] for e, _ in batch} == {epoch}
    assert batches != list(EpochBatches(10, batch_size=3, epochs=4, seed=1))
    # A number of steps overrides that of the epochs, and may end within one.
    assert list(EpochBatches(10, batch_size=3, epochs=1, steps=11)) == batches[:11]
    assert list(EpochBatches(10, batch_size=3, epochs=9, steps=11, first_step=5)) == batches[5:11]
    assert len(EpochBatches(10, batch_size=3, epochs=4, first_step=11)) == 1
    assert list(EpochBatches(10, batch_size=3, epochs=4, first_step=12)) == []


def test_replicas_share_the_batch_of_one_process():
    whole = list(EpochBatches(21, batch_size=4, epochs=2))
    parts = [list(EpochBatches(21, batch_size=2, epochs=2, rank=rank, replicas=2)) for rank in range(2)]
    assert [first + second for first, second in zip(*parts, strict=True)] == whole


def test_bad_batches():
    with pytest.raises(ValueError, match="a step needs 8 images, the split has 7"):
        EpochBatches(7, batch_size=4, epochs=1, replicas=2)
    with pytest.raises(ValueError, match="rank: expected a number below 2, got 2"):
        EpochBatches(7, batch_size=1, epochs=1, rank=2, replicas=2)
    with pytest.raises(ValueError, match="batch_size: expected a whole number from 1, got 0"):
        EpochBatches(7, batch_size=0, epochs=1)


def test_bad_saliency(split):
    saliency = split.images.parent / "saliency"
    write_grey(saliency / "image1.png", np.zeros((5, 5), np.uint8))
    with pytest.raises(ValueError, match=r"image1\.png: expected 67 x 43 pixels as its image has, found 5 x 5"):
        images_of(split)[0, 1]
    batches = training_batches(images_of(split), EpochBatches(7, 7, 1), workers=1)
    with pytest.raises(ValueError, match=r"image1\.png: expected 67 x 43"):
        next(iter(batches))
    (saliency / "image4.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 7 saliency maps .* are missing: .*image4\.png"):
        images_of(split)
    with pytest.raises(FileNotFoundError, match="7 of the 7 saliency maps of split 'train'"):
        TrainingImages(split, saliency / "none", crop=32)
    assert TrainingImages(split, None, crop=32)[0, 0]["saliency"].max() == 255


def test_no_labels(split):
    with pytest.raises(ValueError, match="split 'test' has no image-level labels to train on"):
        TrainingImages(Split("test", split.ids, None, split.images, ".png", None), None, crop=32)


@pytest.mark.parametrize("workers", [0, 2])
def test_photographs_to_predict_on(split, workers):
    ids = split.ids[::2]
    found = list(inference_images(InferenceImages(split, ids, (32, 64)), workers))
    assert [name for name, _, _ in found] == list(ids)
    for name, size, resized in found:
        image = cv2.imread(str(split.image(name)))[..., ::-1]
        assert tuple(size) == image.shape[:2]
        for side, square in zip((32, 64), resized, strict=True):
            assert np.array_equal(square, cv2.resize(image, (side, side)))


def test_real_photographs(photographs, tmp_path):
    prepared = voc.prepare(photographs / "voc_subset" / "VOCdevkit" / "VOC2012", tmp_path, subset=True)
    images = TrainingImages(prepared.split("train_aug"), None, crop=256)
    for i in range(0, 500, 50):
        sample = images[0, i]
        assert sample["valid"].float().mean() > 0.3
        assert sample["labels"].any()


def test_shared_memory_that_is_too_small(split, monkeypatch, tmp_path):
    """Docker gives a container 64 MiB; workers that write beyond it are killed by a bus error."""
    images = TrainingImages(split, None, 256)
    batches = EpochBatches(len(images), 2, 1)
    usage = namedtuple("usage", "total used free")(2**26, 2**26 - 2**20, 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    monkeypatch.setattr(Path, "is_dir", lambda self: True)
    message = r"/dev/shm has 1.0 MiB free, and 2 workers need about 5.0 MiB: start the container with --ipc=host"
    with pytest.raises(OSError, match=message):
        training_batches(images, batches, 2)
    training_batches(images, batches, 0)
