"""The drawn data set: the same from the same seed, varied, and not to be solved by colour or place."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks.studies import trivial
from getam.data import shapes, voc
from getam.data.dataset import open_dataset
from getam.data.shapes import CLASSES, ShapesSettings, draw
from getam.utils.files import read_json

SMALL = ShapesSettings(train=300, val=100, test=5)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return shapes.prepare(tmp_path_factory.mktemp("shapes"), SMALL, workers=1)


def test_the_same_from_the_same_settings(tmp_path):
    few = {"train": 3, "val": 2, "test": 1}
    made = [
        shapes.prepare(tmp_path / name, ShapesSettings(seed=seed, **few), workers)
        for name, seed, workers in (("a", 0, 1), ("b", 0, 2), ("c", 1, 1))
    ]
    contents = [
        {path.relative_to(m.folder): path.read_bytes() for path in m.folder.rglob("*") if path.is_file()} for m in made
    ]
    assert contents[0] == contents[1]
    assert contents[0].keys() == contents[2].keys()
    digests = [read_json(m.folder / "dataset.json")["pixels_sha256"] for m in made]
    assert digests[0] != digests[2]
    images = [draw(ShapesSettings(**few), split, i)[0].tobytes() for split, n in few.items() for i in range(n)]
    assert len(set(images)) == 6


@pytest.mark.parametrize("side", [32, 64, 100])
def test_boundaries_are_unknown(side):
    """Two known labels never touch, and most of the image is known."""
    for i in range(20):
        image, mask = draw(ShapesSettings(side=side), "val", i)
        assert image.shape == (side, side, 3)
        assert mask.shape == (side, side)
        known = mask.astype(int)
        for first, second in ((known[1:], known[:-1]), (known[:, 1:], known[:, :-1])):
            assert not ((first != second) & (first != 255) & (second != 255)).any()
        assert (mask == 255).mean() < 0.2


def test_layout_is_that_of_voc(dataset):
    split = dataset.split("val")
    assert len(split) == 100
    assert voc.split_ids(dataset.folder, "val") == list(split.ids)
    for i, name in enumerate(split.ids):
        labels = np.unique(np.asarray(Image.open(split.mask(name))))
        present = [label - 1 for label in labels if label not in (0, 255)]
        assert np.flatnonzero(split.labels[i]).tolist() == present
        assert present


def test_variety(dataset):
    labels = dataset.split("train").labels
    assert (labels.mean(0) > 0.15).all()
    # Company: a striped disc is seen more often where there is a checkered square than elsewhere.
    disc, square = labels[:, 0] > 0, labels[:, 1] > 0
    assert disc[square].mean() > disc[~square].mean() + 0.1
    assert set(labels.sum(1)) == {1, 2, 3}
    areas = [(draw(SMALL, "train", i)[1] == 1).mean() for i in range(200)]
    areas = [area for area in areas if area]
    assert max(areas) > 4 * min(areas)


def test_neither_colour_nor_place_gives_the_class(dataset):
    """Fitted to the truth of 300 images, with the classes of each image known: all under 30% mIoU."""
    for fit in trivial.LABELLINGS.values():
        labelling = fit(dataset.split("train"), len(CLASSES))
        for known in (False, True):
            assert trivial.score(labelling, dataset.split("val"), len(CLASSES), known) < 0.3


def test_scoring_of_trivial_labellings(dataset):
    split = dataset.split("val")
    matrix = np.zeros(6)
    for name in split.ids:
        mask = np.asarray(Image.open(split.mask(name)))
        matrix += np.bincount(mask[mask != 255], minlength=6)
    expected = matrix[0] / matrix.sum() / 6
    assert trivial.score(trivial.all_background(split, 5), split, 5) == pytest.approx(expected)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="side: expected a whole number from 32, got 16"):
        ShapesSettings(side=16)
    with pytest.raises(ValueError, match="val: expected a whole number from 1, got 0"):
        ShapesSettings(val=0)


def test_full_disk(small_disk):
    command = [sys.executable, "-m", "getam.cli", "prepare", "shapes", "--side", "256", "--workers", "1", "--output"]
    done = subprocess.run(small_disk("sh", "-c", f"{' '.join(command)} $0/shapes; find $0/shapes -name '.*'; "
                          "ls $0/shapes"), capture_output=True, text=True, check=False)  # fmt: skip
    assert "getam: error: [Errno 28] the disk is full: could not write" in done.stderr
    assert "dataset.json" not in done.stdout
    assert "/." not in done.stdout


def test_an_interrupted_run_leaves_no_description(tmp_path, monkeypatch):
    """Half of the files being new, the old description must not pass them off as a data set."""
    few = ShapesSettings(train=2, val=1, test=1)
    shapes.prepare(tmp_path, few)
    monkeypatch.setattr(shapes, "write_mask", lambda path, mask: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        shapes.prepare(tmp_path, few)
    with pytest.raises(FileNotFoundError, match="is not a prepared data set"):
        open_dataset(tmp_path)


def test_another_data_set_is_left_alone(tmp_path):
    (tmp_path / "dataset.json").write_text('{"name": "voc"}')
    with pytest.raises(ValueError, match="holds the data set 'voc': 'shapes' needs a folder of its own"):
        shapes.prepare(tmp_path, ShapesSettings(train=1, val=1, test=1))
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]
