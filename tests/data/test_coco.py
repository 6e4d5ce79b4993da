"""COCO's instances to image-level labels and semantic masks."""

import json
import shutil
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from getam.data import coco
from getam.data.images import read_mask
from getam.utils.files import read_json

HEIGHT, WIDTH = 40, 50


def box(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


@pytest.fixture
def root(tmp_path):
    """Two images with objects and one without in train, one in val; categories 5 (label 2) and 3 (label 1)."""
    folder = tmp_path / "coco"

    def annotation(number: int, image: int, category: int, outline: object, crowd: int = 0) -> dict:
        keys = {"id": number, "image_id": image, "category_id": category, "iscrowd": crowd}
        return {**keys, "segmentation": outline}

    crowd = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    crowd[30:, :] = 1
    runs = np.diff(np.flatnonzero(np.diff(crowd.flatten("F"), prepend=2, append=2)))
    counts = [int(run) for run in runs] if crowd.flat[0] == 0 else [0, *map(int, runs)]
    annotations = {
        "train": [
            annotation(11, 2, 3, box(5, 5, 15, 15)),  # on top: it is smaller, though it comes first
            annotation(12, 2, 5, box(0, 0, 30, 20)),
            annotation(13, 2, 5, {"size": [HEIGHT, WIDTH], "counts": counts}, crowd=1),
            annotation(14, 1, 3, [*box(0, 0, 10, 10), *box(20, 20, 30, 30)]),
        ],
        "val": [annotation(21, 4, 5, box(1, 1, 9, 9))],
    }
    ids = {"train": (2, 1, 3), "val": (4,)}
    (folder / "annotations").mkdir(parents=True)
    for split in ids:
        (folder / f"{split}2014").mkdir()
        images = []
        for number in ids[split]:
            name = f"COCO_{split}2014_{number:012d}.jpg"
            Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{split}2014" / name)
            images.append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
        content = {
            "images": images,
            "annotations": annotations[split],
            "categories": [{"id": 5, "name": "traffic light"}, {"id": 3, "name": "car"}],
        }
        (folder / "annotations" / f"instances_{split}2014.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(("crowd", "value"), [("class", 2), ("ignore", 255)])
def test_prepare(root, tmp_path, crowd, value):
    made = coco.prepare(root, tmp_path / "made", crowd, subset=True)
    assert made.classes == ("car", "traffic light")
    assert {name: len(split) for name, split in made.splits.items()} == {
        "train": 2,
        "train_without_objects": 1,
        "val": 1,
    }
    train = made.split("train")
    assert train.ids == ("COCO_train2014_000000000001", "COCO_train2014_000000000002")
    assert train.labels.tolist() == [[1, 0], [1, 1]]
    assert not made.split("train_without_objects").labels.any()
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:20, :30] = 2
    expected[5:15, 5:15] = 1
    expected[30:] = value
    assert np.array_equal(read_mask(train.mask(train.ids[1])), expected)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:10, :10] = expected[20:30, 20:30] = 1
    assert np.array_equal(read_mask(train.mask(train.ids[0])), expected)
    empty = made.split("train_without_objects")
    assert not read_mask(empty.mask(empty.ids[0])).any()


def test_masks_have_a_checksum_that_the_rule_changes(root, tmp_path):
    digests = [
        {
            part: read_json(made.folder / f"{part}.json")["masks_sha256"]
            for made in [coco.prepare(root, tmp_path / name, crowd, subset=True, workers=workers)]
            for part in ("dataset", "train")
        }
        for name, crowd, workers in (("a", "class", 1), ("b", "class", 2), ("c", "ignore", 1))
    ]
    assert digests[0] == digests[1]
    assert digests[0]["train"]["train"] != digests[2]["train"]["train"]
    assert digests[0]["dataset"] == digests[2]["dataset"]


def test_the_training_images_are_a_part(root, tmp_path):
    shutil.move(root / "train2014", tmp_path / "train2014")
    made = coco.prepare(root, tmp_path / "made", subset=True, part="dataset")
    assert list(made.splits) == ["val"]
    before = (made.folder / "dataset.json").read_bytes()
    shutil.move(tmp_path / "train2014", root / "train2014")
    made = coco.prepare(root, tmp_path / "made", subset=True, part="train")
    assert list(made.splits) == ["val", "train", "train_without_objects"]
    assert (made.folder / "dataset.json").read_bytes() == before
    path = root / "annotations" / "instances_train2014.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "lorry"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances_train2014\.json has other categories than the validation images"):
        coco.prepare(root, tmp_path / "made", subset=True, part="train")


def test_bad_annotations(root, tmp_path):
    path = root / "annotations" / "instances_val2014.json"
    content = json.loads(path.read_text())

    def error(change) -> str:
        changed = json.loads(json.dumps(content))
        change(changed)
        path.write_text(json.dumps(changed))
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            coco.prepare(root, tmp_path / "made", subset=True)
        assert not (tmp_path / "made" / "dataset.json").exists()
        return str(caught.value)

    assert "ValueError('no images')" in error(lambda c: c.pop("images"))
    assert "KeyError(7)" in error(lambda c: c["annotations"][0].update(category_id=7))
    assert "is of image 99, which is not listed" in error(lambda c: c["annotations"][0].update(image_id=99))
    assert "annotation 21 has no readable outline" in error(lambda c: c["annotations"][0].update(segmentation=[[1, 2]]))
    wrong = {"size": [1, 1], "counts": [1]}
    assert "its size is [1, 1], the image's [40, 50]" in error(lambda c: c["annotations"][0].update(segmentation=wrong))
    assert "other categories" in error(lambda c: c["categories"].pop())
    assert "expected 50 x 40 pixels as its image has, found 51 x 40" in error(lambda c: c["images"][0].update(width=51))
    assert "lists image 'COCO_val2014_000000000004' 2 times" in error(lambda c: c["images"].append(c["images"][0]))
    assert "lists category id 3 2 times" in error(lambda c: c["categories"].append({"id": 3, "name": "lorry"}))
    assert "lists category name 'car' 2 times" in error(lambda c: c["categories"].append({"id": 9, "name": "car"}))
    short = {"size": [HEIGHT, WIDTH], "counts": [0, 5]}
    assert "its runs cover 5 pixels" in error(lambda c: c["annotations"][0].update(segmentation=short))
    assert "are missing" in error(lambda c: c["images"][0].update(file_name="COCO_val2014_000000000005.jpg"))
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="1 images with and 0 without objects, COCO 2014 has 40137 and 367"):
        coco.prepare(root, tmp_path / "made")
    with pytest.raises(ValueError, match="crowd: expected one of class, ignore, got 'drop'"):
        coco.prepare(root, tmp_path / "made", "drop")
    path.write_text("{")
    with pytest.raises(ValueError, match=r"instances_val2014\.json has no instances as COCO writes them"):
        coco.prepare(root, tmp_path / "made", subset=True)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no annotations .*instances_val2014\.json"):
        coco.prepare(root, tmp_path / "made", subset=True)


def test_real_masks_have_pycocotools_areas(photographs, tmp_path, capsys):
    """Each class covers what its instances cover, by pycocotools' own reader, less what smaller instances hide."""
    root = photographs / "coco_subset"
    instances = 0
    for split in ("train", "val"):
        path = root / "annotations" / f"instances_{split}2014.json"
        reference = COCO(path)
        number_of = {image["file_name"].removesuffix(".jpg"): i for i, image in reference.imgs.items()}
        labels = {category: i + 1 for i, category in enumerate(sorted(reference.cats))}
        for image in coco.read_instances(path, tmp_path / split)[1]:
            mask = coco.render_mask(image.read())
            annotations = reference.imgToAnns[number_of[image.name]]
            assert len(annotations) == len(image)
            encoded = {a["id"]: reference.annToRLE(a) for a in annotations}
            covered = rle.area(rle.merge(list(encoded.values()))) if encoded else 0
            assert (mask > 0).sum() == covered
            for annotation in annotations:
                own = encoded[annotation["id"]]
                smaller = [r for r in encoded.values() if rle.area(r) < rle.area(own)]
                hidden = rle.area(rle.merge([own, rle.merge(smaller)], intersect=True)) if smaller else 0
                shown = (mask[rle.decode(own) > 0] == labels[annotation["category_id"]]).sum()
                assert shown >= rle.area(own) - hidden
                instances += 1
    assert instances > 200


@pytest.mark.parametrize(
    "outline",
    [
        [[0, 0, float("nan"), 5, 5, 5]],
        [[0, 0, float("inf"), 5, 5, 5]],
        [[0, 0, 1e9, 5, 5, 5]],
        [[0, 0, -1e9, 5, 5, 5]],
        [[0, 0, "5", 5, 5, 5]],
        [[0, 0, 5, 5, 5]],
    ],
    ids=str,
)
def test_outlines_that_would_crash(tmp_path, outline):
    """pycocotools ends with a segmentation fault on some of these."""
    image = coco.Image("COCO_a", 20, 30, ({"id": 7, "iscrowd": 0, "label": 1, "segmentation": outline},))
    with pytest.raises(ValueError, match="image COCO_a: annotation 7 has no readable outline: .*finite coordinates"):
        coco.render_mask(image)


def test_runs_that_are_negative():
    outline = {"size": [4, 5], "counts": [-5, 25]}
    image = coco.Image("a", 4, 5, ({"id": 7, "iscrowd": 1, "label": 1, "segmentation": outline},))
    with pytest.raises(ValueError, match="its runs are not whole numbers from 0"):
        coco.render_mask(image)


def test_memory_does_not_grow_with_the_outlines(tmp_path):
    """COCO's train has 600,000 outlines, which took two gigabytes: only their places are kept."""

    def peak(corners: int) -> int:
        path = tmp_path / f"{corners}.json"
        outline = [[0.25, 17.5] * corners]
        annotations = [
            {"id": i, "image_id": i % 50, "category_id": 1, "iscrowd": 0, "segmentation": outline} for i in range(500)
        ]
        images = [{"id": i, "file_name": f"{i}.jpg", "height": 30, "width": 30} for i in range(50)]
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
        path.write_text(json.dumps(content))
        tracemalloc.start()
        try:
            found = coco.read_instances(path, tmp_path / "outlines")[1]
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert [len(image) for image in found] == [10] * 50
            assert found[7].read().instances[3]["segmentation"] == outline

    small, large = peak(3), peak(300)
    assert (tmp_path / "300.json").stat().st_size > 1_500_000
    assert large - small < 200_000
