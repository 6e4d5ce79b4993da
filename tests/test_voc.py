"""Reading VOC's lists and annotations, on files written here."""

import numpy as np
import pytest

from getam.datasets import voc


def annotation(path, *names):
    objects = "".join(f"<object><name>{name}</name><difficult>1</difficult></object>" for name in names)
    path.write_text(f"<annotation><filename>x.jpg</filename>{objects}</annotation>")
    return path


def test_labels(tmp_path):
    labels = voc.image_labels(annotation(tmp_path / "a.xml", "tvmonitor", "aeroplane", "aeroplane"))
    assert np.flatnonzero(labels).tolist() == [0, 19]
    assert not voc.image_labels(annotation(tmp_path / "b.xml")).any()


def test_bad_annotations(tmp_path):
    with pytest.raises(ValueError, match=r"a\.xml: unknown class 'unicorn'; known are aeroplane, bicycle"):
        voc.image_labels(annotation(tmp_path / "a.xml", "unicorn"))
    (tmp_path / "half.xml").write_text("<annotation><object>")
    with pytest.raises(ValueError, match=r"half\.xml is no XML"):
        voc.image_labels(tmp_path / "half.xml")
    with pytest.raises(FileNotFoundError, match=r"no annotation .*none\.xml"):
        voc.image_labels(tmp_path / "none.xml")


def test_splits(tmp_path):
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2007_000033\n2007_000042\n")
    (lists / "empty.txt").write_text("\n")
    assert voc.split_ids(tmp_path, "val") == ["2007_000033", "2007_000042"]
    with pytest.raises(ValueError, match=r"empty\.txt lists no image"):
        voc.split_ids(tmp_path, "empty")
    with pytest.raises(FileNotFoundError, match=r"no list of images .*test\.txt; the root is the folder VOC2012"):
        voc.split_ids(tmp_path, "test")
