"""Photographs of your own: one folder a class, a list of classes, masks, and all that can be wrong with them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from getam.cli.command import main
from getam.data import folder
from getam.data.images import read_image, read_mask, write_mask

SIZE = (12, 16)
CLASSES = ("red fox", "tawny owl")


def photograph(path: Path, level: int = 128) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), level, np.uint8)).save(path)
    return path


@pytest.fixture
def classes_as_folders(tmp_path) -> Path:
    """Ten photographs of each class, whose names occur in both; of different types."""
    for i in range(10):
        photograph(tmp_path / "photos" / "red fox" / f"IMG ({i}).jpg", 10 * i)
        photograph(tmp_path / "photos" / "tawny owl" / "night" / f"IMG ({i}).PNG", 10 * i)
    return tmp_path / "photos"


@pytest.fixture
def flat(tmp_path) -> Path:
    """Six photographs, five in a list."""
    for i in range(6):
        photograph(tmp_path / "flat" / f"{i}.jpg", 10 * i)
    write(tmp_path, "id,classes\n0,red fox\n1.jpg,tawny owl\n2,red fox|tawny owl\n3,\n4,tawny owl\n")
    return tmp_path / "flat"


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "labels.csv").write_text(text)
    return tmp_path / "labels.csv"


def test_one_folder_for_each_class(classes_as_folders, tmp_path):
    made = folder.prepare(classes_as_folders, tmp_path / "made", seed=4)
    assert made.classes == CLASSES
    train, val = made.split("train"), made.split("val")
    assert (len(train), len(val)) == (16, 4)
    assert not set(train.ids) & set(val.ids)
    assert {"red_fox_IMG_3_", "tawny_owl_night_IMG_3_"} <= {*train.ids, *val.ids}
    for split in (train, val):
        assert split.masks is None
        for name, labels in zip(split.ids, split.labels, strict=True):
            assert labels.tolist() == [name.startswith("red"), name.startswith("tawny")]
            assert read_image(split.image(name))[0, 0, 0] == pytest.approx(10 * int(name[-2]), abs=2)
    again = folder.prepare(classes_as_folders, tmp_path / "again", seed=4)
    other = folder.prepare(classes_as_folders, tmp_path / "other", seed=5)
    assert again.split("val").ids == val.ids != other.split("val").ids


def test_a_list_of_classes(flat, tmp_path, caplog):
    made = folder.prepare(flat, tmp_path / "made", tmp_path / "labels.csv", val=1)
    found = {}
    for split in made.splits.values():
        assert split.image_suffix == ".jpg"
        found |= dict(zip(split.ids, split.labels.tolist(), strict=True))
    assert found == {"0": [1, 0], "1": [0, 1], "2": [1, 1], "3": [0, 0], "4": [0, 1]}
    assert "1 photographs are not listed and left out: 5" in caplog.text


def test_masks_of_some_photographs(flat, tmp_path):
    """val is drawn from those that have a mask; the order of the classes is that of the labels in the masks."""
    mask = np.zeros(SIZE, np.uint8)
    mask[3:9] = 2
    for name in ("0", "2"):
        write_mask(tmp_path / "masks" / f"{name}.png", mask)
    arguments = flat, tmp_path / "made", tmp_path / "labels.csv", tmp_path / "masks", CLASSES[::-1]
    made = folder.prepare(*arguments)
    assert made.classes == CLASSES[::-1]
    val = made.split("val")
    assert len(val) == 1
    assert set(val.ids) < {"0", "2"}
    assert made.split("train").masks is None
    assert folder.prepare(*arguments, val=2).split("val").ids == ("0", "2")
    assert np.array_equal(read_mask(val.mask(val.ids[0])), mask)
    with pytest.raises(ValueError, match="3 images were asked for, but only 2 have a mask"):
        folder.prepare(*arguments, val=3)
    write_mask(tmp_path / "masks" / "0.png", mask + 7)
    with pytest.raises(ValueError, match=r"0\.png: label 7, expected 0\.\.2 or 255"):
        folder.prepare(*arguments, val=2)
    assert not (tmp_path / "made" / "dataset.json").exists()


def test_masks_beside_the_photographs(flat, tmp_path):
    """A folder of masks inside that of the photographs holds no photographs."""
    for name in "01234":
        write_mask(flat / "masks" / f"{name}.png", np.ones(SIZE, np.uint8))
    made = folder.prepare(flat, flat / "made", tmp_path / "labels.csv", flat / "masks")
    assert made.split("train").masks is not None
    assert read_mask(made.split("val").mask(made.split("val").ids[0])).all()
    assert len(folder.prepare(flat, flat / "made", tmp_path / "labels.csv", flat / "masks").split("train")) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\n0,fox\n", "expected the columns id,classes, found name,label"),
        ("", "expected the columns id,classes, found "),
        ("id,classes\n", "lists no photograph"),
        ("id,classes\n9,fox\n", "line 2: no photograph '9' in"),
        ("id,classes\n0,fox\n0.jpg,owl\n", r"line 3: '0.jpg' is listed twice; separate classes by \|"),
        ("id,classes\n0,fox,owl\n", r"line 2: more fields than columns; separate classes by \|"),
        ("id,classes\n0,\n1,\n", "no photograph has a class"),
        ("id,classes\n0,fox\n1,background\n", "'background' is label 0 and no class"),
        ("id,classes\n0,fox\n", "one photograph cannot be split"),
    ],
)
def test_bad_lists(flat, tmp_path, text, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        folder.prepare(flat, tmp_path / "made", write(tmp_path, text))
    assert not (tmp_path / "made").exists()


def test_what_else_can_be_wrong(classes_as_folders, flat, tmp_path, caplog):
    made, labels = tmp_path / "made", tmp_path / "labels.csv"
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        folder.prepare(tmp_path / "nowhere", made)
    with pytest.raises(FileNotFoundError, match="no list of classes"):
        folder.prepare(flat, made, tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"0\.jpg is in no folder of a class; list the classes .* with --labels"):
        folder.prepare(flat, made)
    with pytest.raises(ValueError, match="there is no 'red fox'; did you mean red foxes"):
        folder.prepare(flat, made, labels, classes=["red foxes", "tawny owl"])
    with pytest.raises(ValueError, match="'fox' is named twice"):
        folder.prepare(flat, made, labels, classes=["fox", "fox"])
    with pytest.raises(FileNotFoundError, match=r"no mask of any photograph in .*; expected names such as 0\.png"):
        folder.prepare(flat, made, labels, masks=classes_as_folders)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no photograph"):
        folder.prepare(tmp_path / "empty", made)
    photograph(flat / "1.png")
    with pytest.raises(ValueError, match="would both have the id 1; rename one of them"):
        folder.prepare(flat, made, labels)
    (flat / "1.png").unlink()
    (flat / "2.jpg").write_text("no picture")
    with pytest.raises(ValueError, match=r"2\.jpg cannot be read as an image"):
        folder.prepare(flat, made, labels)
    assert not made.exists()
    photograph(flat / "2.jpg")
    photograph(made / folder.IMAGES / "mine.jpg")
    with pytest.raises(FileExistsError, match=r"mine\.jpg is no link of an earlier preparation"):
        folder.prepare(flat, made, labels)
    folder.prepare(classes_as_folders / "tawny owl", tmp_path / "owls")
    assert "every photograph of train has the class night: it cannot be learned" in caplog.text


def test_the_command(classes_as_folders, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "folder", "photos", "--output", "made", "--val", "3", "--seed", "2"]) == 0
    printed = "train: 17 images with labels\nval: 3 images with labels\nfolder is prepared in made\n"
    assert capsys.readouterr().out == printed
    Path("moved").mkdir()
    Path("photos").rename("moved/photos")
    Path("made").rename("moved/made")  # relative paths: everything can be moved together
    assert main(["check", "moved/made"]) == 0
