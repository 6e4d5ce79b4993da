"""Images that are set aside by a seed."""

import numpy as np
import pytest

from getam.data.dataset import Split, open_dataset
from getam.data.hold_out import draw, hold_out
from getam.data.images import write_mask
from getam.data.voc import CLASSES, prepare
from getam.utils.files import read_json
from tests.helpers.small_voc import SBD_ONLY, TRAIN, mask_of, write_list, write_voc

IDS = [f"{i:02}" for i in range(30)]


def test_the_seed_and_the_ids_alone_decide():
    chosen = draw(IDS, 7, 0)
    assert len(chosen) == 7
    assert chosen < set(IDS)
    assert draw(IDS[::-1], 7, 0) == chosen
    assert draw(IDS, 7, 1) != chosen


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (30, 0), (31, 0), (3, -1)])
def test_impossible_numbers(count, seed):
    with pytest.raises(ValueError, match=r"count|images cannot be set aside|seed"):
        draw(IDS, count, seed)


def test_the_two_parts_share_nothing_and_keep_order_and_labels(tmp_path):
    labels = np.eye(30, dtype=np.float32)
    fit, held_out = hold_out(Split("train", tuple(IDS), labels, tmp_path, ".jpg", tmp_path), 7, 3)
    assert (fit.name, held_out.name) == ("train_fit", "train_held_out")
    assert sorted(fit.ids + held_out.ids) == IDS
    for part in (fit, held_out):
        assert list(part.ids) == sorted(part.ids)
        assert [IDS[row.argmax()] for row in part.labels] == list(part.ids)
        assert part.masks == tmp_path


def test_train_aug(tmp_path):
    root = write_voc(tmp_path / "VOC2012", CLASSES)
    write_list(root, "train_aug", (*TRAIN, *SBD_ONLY))
    for name in (*TRAIN, *SBD_ONLY):
        write_mask(root / "SegmentationClassAug" / f"{name}.png", mask_of(name))
    whole = prepare(root, tmp_path / "whole", subset=True)
    prepare(root, tmp_path / "voc", subset=True, part="dataset", hold_out=2)
    made = prepare(root, tmp_path / "voc", subset=True, part="train_aug", hold_out=2, seed=1)
    assert set(made.splits) == {"train", "val", "train_aug", "train_aug_fit", "train_aug_held_out"}
    assert made.split("train_aug").ids == whole.split("train_aug").ids
    fit, held_out = made.split("train_aug_fit"), made.split("train_aug_held_out")
    assert (len(fit), len(held_out)) == (3, 2)
    assert set(fit.ids) | set(held_out.ids) == {*TRAIN, *SBD_ONLY}
    assert read_json(tmp_path / "voc" / "train_aug.json")["held_out"] == {"images": 2, "seed": 1}
    assert "train_aug_fit" not in open_dataset(tmp_path / "whole").splits


def test_nothing_is_written_where_too_many_are_asked_for(tmp_path):
    root = write_voc(tmp_path / "VOC2012", CLASSES)
    with pytest.raises(ValueError, match="held out of train_aug: it needs its list"):
        prepare(root, tmp_path / "voc", subset=True, hold_out=2)
    write_list(root, "train_aug", TRAIN)
    with pytest.raises(ValueError, match="2 of 2 images cannot be set aside"):
        prepare(root, tmp_path / "voc", subset=True, hold_out=2)
    assert not (tmp_path / "voc").exists()
