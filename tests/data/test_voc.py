"""VOC and SBD: lists, image-level labels, masks; on files written here and, where they are, on the real ones."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from getam.data import voc
from getam.data.dataset import open_dataset
from getam.data.images import palette, read_mask, write_mask
from getam.data.inspection import check_split
from getam.data.sbd import all_ids, read_mat_mask, train_aug_ids
from getam.data.voc import CLASSES, image_labels, prepare, split_ids
from getam.evaluation.scores import score_masks
from getam.utils.files import read_json, write_json
from tests.helpers import small_voc
from tests.helpers.small_voc import SBD_ONLY, TEST, TRAIN, VAL, mask_of, write_annotation, write_list, write_voc


@pytest.fixture
def root(tmp_path) -> Path:
    return small_voc.write_voc(tmp_path / "VOCdevkit" / "VOC2012", voc.CLASSES)


@pytest.fixture
def sbd(tmp_path) -> Path:
    return small_voc.write_sbd(tmp_path / "benchmark_RELEASE" / "dataset")


def test_labels(tmp_path):
    labels = voc.image_labels(write_annotation(tmp_path / "a.xml", "tvmonitor", "aeroplane", "aeroplane"))
    assert np.flatnonzero(labels).tolist() == [0, 19]
    assert not voc.image_labels(write_annotation(tmp_path / "b.xml")).any()


def test_bad_annotations(tmp_path):
    with pytest.raises(ValueError, match=r"a\.xml: unknown class 'unicorn'; known are aeroplane, bicycle"):
        voc.image_labels(write_annotation(tmp_path / "a.xml", "unicorn"))
    (tmp_path / "half.xml").write_text("<annotation><object>")
    with pytest.raises(ValueError, match=r"half\.xml is not XML"):
        voc.image_labels(tmp_path / "half.xml")
    with pytest.raises(FileNotFoundError, match=r"no annotation .*none\.xml"):
        voc.image_labels(tmp_path / "none.xml")


def test_lists(tmp_path):
    small_voc.write_list(tmp_path, "val", VAL)
    small_voc.write_list(tmp_path, "empty", ())
    assert voc.split_ids(tmp_path, "val") == list(VAL)
    with pytest.raises(ValueError, match=r"empty\.txt lists no image"):
        voc.split_ids(tmp_path, "empty")
    with pytest.raises(FileNotFoundError, match=r"no list of images .*test\.txt; the root is the folder VOC2012"):
        voc.split_ids(tmp_path, "test")


def test_train_aug_is_all_of_sbd_and_train_without_val(sbd):
    assert train_aug_ids(TRAIN, VAL, all_ids(sbd)) == (*sorted(TRAIN), *SBD_ONLY)
    assert train_aug_ids(["b", "a"], ["c"], ["c", "d", "a"]) == ("a", "b", "d")


def test_train_aug_of_the_true_lists():
    roots = os.environ.get("GETAM_VOC"), os.environ.get("GETAM_SBD")
    if None in roots:
        pytest.skip("GETAM_VOC (the folder VOC2012) and GETAM_SBD (SBD's folder dataset) name the real lists")
    root, sbd = map(Path, roots)
    lists = {split: voc.split_ids(root, split) for split in ("train", "val")}
    ids = train_aug_ids(lists["train"], lists["val"], all_ids(sbd))
    assert len(ids) == voc.COUNTS["train_aug"] == 10582
    assert not set(ids) & set(lists["val"])


@pytest.mark.parametrize("workers", [1, 2])
def test_prepare(root, sbd, tmp_path, workers):
    test = small_voc.write_test(tmp_path / "test" / "VOC2012")
    made = voc.prepare(root, tmp_path / "voc", sbd, test, subset=True, sources=[{"archive": "a"}], workers=workers)
    assert made.classes == voc.CLASSES
    ids = {name: split.ids for name, split in made.splits.items()}
    assert ids == {"train": TRAIN, "val": VAL, "train_aug": (*sorted(TRAIN), *SBD_ONLY), "test": TEST}
    train_aug = made.split("train_aug")
    for i, name in enumerate(train_aug.ids):
        own = name in TRAIN  # VOC's masks have the unknown rim, SBD's have not
        expected = mask_of(name) if own else np.where(mask_of(name) == 255, 0, mask_of(name))
        assert np.array_equal(read_mask(train_aug.mask(name)), expected)
        assert np.flatnonzero(train_aug.labels[i]).tolist() == [small_voc.CLASS_OF.get(name, 3) - 1]
    assert made.split("test").labels is None
    assert made.split("test").masks is None
    description = read_json(tmp_path / "voc" / "dataset.json")
    assert description["sources"] == [{"archive": "a"}]
    description = read_json(tmp_path / "voc" / "train_aug.json")
    assert description["splits"]["train_aug"]["count"] == 5
    # The digest is of the labels, so it is the same for the same masks.
    again = voc.prepare(root, tmp_path / "again", sbd, test, subset=True)
    digest = read_json(again.folder / "train_aug.json")["train_aug_masks_sha256"]
    assert digest == description["train_aug_masks_sha256"]


def test_ready_made_train_aug(root, tmp_path):
    small_voc.write_list(root, "train_aug", (*TRAIN, *SBD_ONLY))
    for name in (*TRAIN, *SBD_ONLY):
        write_mask(root / "SegmentationClassAug" / f"{name}.png", mask_of(name))
    made = voc.prepare(root, tmp_path / "voc", subset=True)
    assert made.split("train_aug").ids == (*TRAIN, *SBD_ONLY)
    assert made.split("train_aug").mask(TRAIN[0]).parent.samefile(root / "SegmentationClassAug")


def test_masks_alone(root, sbd, tmp_path):
    """The archive SegmentationClassAug has the masks of train_aug and of val, and no list."""
    for name in (*TRAIN, *VAL, *SBD_ONLY):
        write_mask(tmp_path / "SegmentationClassAug" / f"{name}.png", mask_of(name))
    made = voc.prepare(root, tmp_path / "voc", masks=tmp_path / "SegmentationClassAug", subset=True)
    assert made.split("train_aug").ids == (*sorted(TRAIN), *SBD_ONLY)
    assert np.array_equal(read_mask(made.split("train_aug").mask(SBD_ONLY[0])), mask_of(SBD_ONLY[0]))
    with pytest.raises(ValueError, match="from --sbd or from --masks, not from both"):
        voc.prepare(root, tmp_path / "voc", sbd, masks=tmp_path / "SegmentationClassAug", subset=True)
    with pytest.raises(FileNotFoundError, match=r"no masks <id>\.png in .*nothing"):
        voc.prepare(root, tmp_path / "voc", masks=tmp_path / "nothing", subset=True)


def test_a_part_changes_nothing_of_the_others(root, sbd, tmp_path):
    folder = tmp_path / "voc"
    with pytest.raises(
        FileNotFoundError, match=r"no .*dataset\.json: prepare the part 'dataset' before the part 'test'"
    ):
        voc.prepare(root, folder, test=small_voc.write_test(tmp_path / "test"), subset=True, part="test")
    before = voc.prepare(root, folder, subset=True, part="dataset")
    contents = {path: path.read_bytes() for path in folder.iterdir()}
    assert {"dataset.json", "train.csv", "val.csv"} <= {path.name for path in contents}
    voc.prepare(root, folder, sbd, subset=True, part="train_aug", sources=[{"archive": "sbd"}])
    made = voc.prepare(root, folder, test=tmp_path / "test", subset=True, part="test")
    assert {path: path.read_bytes() for path in contents} == contents
    assert list(before.splits) == ["train", "val"]
    assert {name: len(split) for name, split in made.splits.items()} == {
        "train": 2,
        "val": 2,
        "train_aug": 5,
        "test": 1,
    }
    # Another job that writes a part does not disturb those that read the others.
    (folder / "test.csv").write_text("half")
    assert open_dataset(folder).split("val").ids == VAL
    with pytest.raises(ValueError, match=r"test\.csv is not the list that test\.json describes"):
        open_dataset(folder).split("test")
    with pytest.raises(ValueError, match="the part 'test' needs --test"):
        voc.prepare(root, folder, subset=True, part="test")
    with pytest.raises(ValueError, match="part: expected one of dataset, train_aug, test, got 'vall'"):
        voc.prepare(root, folder, subset=True, part="vall")
    # Without a part, the folder is as the call says.
    assert list(voc.prepare(root, folder, subset=True).splits) == ["train", "val"]


def test_a_part_of_another_data_set(root, sbd, tmp_path):
    folder = voc.prepare(root, tmp_path / "voc", sbd, subset=True).folder
    described = read_json(folder / "train_aug.json")
    write_json(folder / "train_aug.json", {**described, "classes": described["classes"][1:]})
    with pytest.raises(ValueError, match=r"train_aug\.json is a part of another data set than .*dataset\.json"):
        open_dataset(folder)
    write_json(folder / "train_aug.json", described)
    base = read_json(folder / "dataset.json")
    write_json(folder / "dataset.json", {**base, "splits": {**base["splits"], **described["splits"]}})
    with pytest.raises(ValueError, match="split 'train_aug' is described twice"):
        open_dataset(folder)


def test_published_counts_are_insisted_on(root, sbd, tmp_path):
    with pytest.raises(ValueError, match=r"split 'train' has 2 images, VOC 2012's has 1464; .*--subset"):
        voc.prepare(root, tmp_path / "voc", sbd)
    assert not (tmp_path / "voc").exists()


def test_moved_together(root, tmp_path, monkeypatch):
    """Relative folders stay relative to the prepared folder: both can be moved, and read from anywhere."""
    monkeypatch.chdir(tmp_path)
    voc.prepare(Path("VOCdevkit/VOC2012"), Path("made/voc"), subset=True)
    (tmp_path / "moved").mkdir()
    for folder in ("VOCdevkit", "made"):
        (tmp_path / folder).rename(tmp_path / "moved" / folder)
    split = open_dataset(tmp_path / "moved" / "made" / "voc").split("val")
    assert split.image(VAL[0]).is_file()
    assert split.mask(VAL[0]).is_file()


def test_symbolic_links(root, tmp_path, monkeypatch):
    """From a folder that is a link, `..` leads to where it points."""
    monkeypatch.chdir(tmp_path)
    Path("disk/deep/est").mkdir(parents=True)
    Path("made").symlink_to("disk/deep/est")
    split = voc.prepare(Path("VOCdevkit/VOC2012"), Path("made/voc"), subset=True).split("val")
    assert split.image(VAL[0]).is_file()
    assert split.mask(VAL[0]).is_file()


def test_ids(root, tmp_path):
    lists = root / "ImageSets" / "Segmentation"
    lists.joinpath("val.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(VAL).encode())
    assert voc.split_ids(root, "val") == list(VAL)
    for name in ("a,b", '"a"', "a/b"):
        write_annotation(root / "Annotations" / f"{name}.xml", "cat")
        lists.joinpath("val.txt").write_text(name)
        with pytest.raises(ValueError, match=f"split 'val': '{name}' is not an id"):
            voc.prepare(root, tmp_path / "voc", subset=True)


def test_changed_list_is_noticed(root, tmp_path):
    made = voc.prepare(root, tmp_path / "voc", subset=True)
    with pytest.raises(ValueError, match="no split 'test'; known are train, val"):
        made.split("test")
    with (tmp_path / "voc" / "val.csv").open("a") as file:
        file.write("2011_003276,cat\n")
    with pytest.raises(ValueError, match=r"val\.csv is not the list that dataset\.json describes"):
        open_dataset(tmp_path / "voc")
    with pytest.raises(FileNotFoundError, match=r"is not a prepared data set: no dataset\.json in it"):
        open_dataset(root)
    (tmp_path / "voc" / "dataset.json").write_text("{}")
    with pytest.raises(ValueError, match=r"dataset\.json does not describe a data set"):
        open_dataset(tmp_path / "voc")


def test_bad_files(root, sbd, tmp_path):
    def error(kind: type = ValueError) -> str:
        with pytest.raises(kind) as caught:
            voc.prepare(root, tmp_path / "voc", sbd, subset=True)
        assert not (tmp_path / "voc" / "dataset.json").exists()
        return str(caught.value)

    mask = root / "SegmentationClass" / f"{VAL[0]}.png"
    write_mask(mask, np.zeros((30, 24), np.uint8))
    assert "expected 30 x 24 pixels as its image has, found 24 x 30" in error()
    mask.unlink()
    assert f"1 of the 2 masks of split 'val' are missing: {mask}" in error(FileNotFoundError)
    write_mask(mask, mask_of(VAL[0]))
    image = root / "JPEGImages" / f"{SBD_ONLY[0]}.jpg"
    content = image.read_bytes()
    image.write_text("<html>")
    assert f"{image} cannot be read as an image" in error()
    image.unlink()
    assert f"1 of the 5 images of split 'train_aug' are missing: {image}" in error(FileNotFoundError)
    image.write_bytes(content)
    small_voc.write_list(root, "val", (VAL[0], VAL[0]))
    assert f"split 'val' lists {VAL[0]} 2 times" in error()
    small_voc.write_list(root, "val", VAL)
    (root / "Annotations" / f"{SBD_ONLY[1]}.xml").unlink()
    assert f"{SBD_ONLY[1]}.xml" in error(FileNotFoundError)


def test_bad_mat_files(sbd, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.mat"):
        read_mat_mask(tmp_path / "none.mat")
    cut = tmp_path / "cut.mat"
    cut.write_bytes((sbd / "cls" / f"{SBD_ONLY[0]}.mat").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"cut\.mat is not a mask of SBD"):
        read_mat_mask(cut)
    scipy.io.savemat(tmp_path / "other.mat", {"GTinst": {"Segmentation": np.zeros((2, 2), np.uint8)}})
    with pytest.raises(ValueError, match=r"other\.mat is not a mask of SBD: KeyError\('GTcls'\)"):
        read_mat_mask(tmp_path / "other.mat")
    scipy.io.savemat(tmp_path / "labels.mat", {"GTcls": {"Segmentation": np.full((2, 2), 21, np.uint8)}})
    with pytest.raises(ValueError, match=r"labels\.mat: expected an \(H, W\) array of labels 0..20 or 255"):
        read_mat_mask(tmp_path / "labels.mat")
    with pytest.raises(FileNotFoundError, match=r"train\.txt; SBD's root is the folder dataset"):
        all_ids(tmp_path)


@pytest.mark.parametrize("line", ["{} 1", "{}.jpg", "/JPEGImages/{0}.jpg /SegmentationClassAug/{0}.png", "  {}  "])
def test_lists_as_other_repositories_write_them(tmp_path, line):
    path = tmp_path / "ImageSets" / "Segmentation" / "train.txt"
    path.parent.mkdir(parents=True)
    path.write_text("\r\n".join(line.format(name) for name in TRAIN) + "\r\n\n")
    assert split_ids(tmp_path, "train") == list(TRAIN)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_lists_in_another_encoding_are_named(tmp_path, encoding):
    path = tmp_path / "ImageSets" / "Segmentation" / "train.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes("2007_000032\n\xe4\n".encode(encoding))
    with pytest.raises(ValueError, match=r"train\.txt is not UTF-8 text.*save it as UTF-8"):
        split_ids(tmp_path, "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object><difficult>0</difficult></object></annotation>", "an <object> has no <name>"),
        ("<annotation><object><name> </name></object></annotation>", "an <object> has no <name>"),
        ("<annotations><object><name>cat</name></object></annotations>", "found <annotations>"),
        ('<annotation xmlns="urn:x"><object><name>cat</name></object></annotation>', "found <{urn:x}annotation>"),
        ('<?xml version="1.0" encoding="gb2312"?><annotation/>', "is not XML that can be read: .*save it as UTF-8"),
    ],
)
def test_annotations_lose_no_label_silently(tmp_path, text, message):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"a\.xml.*{message}"):
        image_labels(path)


def reordered(mask):
    """The same picture with the palette of an optimiser: only the colours that occur, in the order of their use."""
    image = Image.fromarray(mask)
    image.putpalette(palette().tobytes())
    used = sorted(set(mask.ravel().tolist()), key=lambda value: -int((mask == value).sum()))
    return image.remap_palette(used)


def test_a_reordered_palette_is_refused_everywhere(tmp_path, capsys):
    root = write_voc(tmp_path / "voc", CLASSES)
    prepare(root, tmp_path / "dataset", subset=True)
    masks = tmp_path / "masks"
    shutil.copytree(root / "SegmentationClass", masks)
    name = "2007_000039"  # a tvmonitor, label 20
    same = reordered(mask_of(name))
    for folder in (root / "SegmentationClass", masks):
        same.save(folder / f"{name}.png")
    assert same.convert("RGB").tobytes() == coloured(mask_of(name)).convert("RGB").tobytes()
    message = r"2007_000039\.png.*its palette was reordered: index \d+ has the colour of VOC's label \d+"
    with pytest.raises(ValueError, match=message):
        prepare(root, tmp_path / "again", subset=True)
    dataset = open_dataset(tmp_path / "dataset")
    assert re.search(message, check_split(dataset, "train").problems[0])
    with pytest.raises(ValueError, match=message):
        score_masks(dataset.split("train"), CLASSES, masks)


def coloured(mask):
    image = Image.fromarray(mask)
    image.putpalette(palette().tobytes())
    return image


def test_palettes_of_other_programs_are_accepted(tmp_path):
    mask = mask_of("2007_000039")
    for colours in ([(i, i, i) for i in range(256)], np.random.default_rng(0).integers(0, 256, (256, 3)).tolist()):
        image = Image.fromarray(mask)
        image.putpalette([value for colour in colours for value in colour])
        image.save(tmp_path / "a.png")
        assert np.array_equal(read_mask(tmp_path / "a.png"), mask)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: image.convert("RGB"), "expected 8 bits in one channel, found RGB"),
        (
            lambda image: image.convert("L"),
            "label 1[0-9]+, expected 0..20 or 255; a mask holds labels, not shades of grey",
        ),
        (
            lambda image: Image.fromarray(np.array(image).astype(np.uint16)),
            "expected 8 bits in one channel, found I;16",
        ),
    ],
)
def test_masks_of_another_kind_are_found_by_prepare(tmp_path, change, message):
    root = write_voc(tmp_path / "voc", CLASSES)
    path = root / "SegmentationClass" / "2007_000042.png"
    change(coloured(mask_of(path.stem))).save(path)
    with pytest.raises(ValueError, match=rf"2007_000042\.png.*{message}"):
        prepare(root, tmp_path / "dataset", subset=True)
    assert not (tmp_path / "dataset" / "dataset.json").exists()


def test_what_prepare_says_of_labels_and_splits(tmp_path, caplog):
    root = write_voc(tmp_path / "voc", CLASSES)
    write_annotation(root / "Annotations" / f"{TRAIN[0]}.xml")
    write_list(root, "val", (*VAL, TRAIN[1]))
    prepare(root, tmp_path / "dataset", subset=True)
    assert f"split train: 1 images have no label, but classes in their mask: {TRAIN[0]}" in caplog.text
    assert f"1 images are in train and in val: {TRAIN[1]}" in caplog.text
