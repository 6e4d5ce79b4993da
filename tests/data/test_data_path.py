"""The way of real photographs from archives on a server to prepared data sets, by the commands that a person types."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import yaml
from PIL import Image

from getam.cli.command import main
from getam.data.dataset import open_dataset
from getam.data.images import read_mask
from getam.data.inspection import check_split
from getam.utils.files import read_json
from tests.helpers.file_server import serving


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server, and an empty working directory in which relative paths lie."""
    monkeypatch.chdir(tmp_path)
    with serving() as running:
        yield running


def publish(server, archives: dict[str, bytes]) -> None:
    """Puts archives on the server, which drops each connection once, and into config/archives.yaml."""
    registry = {}
    for file, content in archives.items():
        server.behaviours[f"/{file}"] = lambda handler, content=content: handler.send_file(
            content, stop_after=len(content) // 2 if handler.attempt == 1 else None
        )
        registry[file.split(".")[0]] = {
            "file": file,
            "urls": [server.url(f"/gone/{file}"), server.url(f"/{file}")],
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    Path("config").mkdir()
    Path("config/archives.yaml").write_text(yaml.safe_dump(registry))


def run(command: str) -> None:
    assert main(command.split()) == 0, command


def test_voc(photographs, server, capsys):
    source = photographs / "voc_subset"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(source / "VOCdevkit", "VOCdevkit", filter=without_train_aug)
    lists = {
        split: (source / "VOCdevkit/VOC2012/ImageSets/Segmentation" / f"{split}.txt").read_text().split()
        for split in ("train", "val", "train_aug")
    }
    publish(server, {"trainval.tar": packed.getvalue(), "sbd.tgz": sbd_of(source / "VOCdevkit/VOC2012", lists)})

    run("fetch trainval sbd")
    run("unpack resources/archives/trainval.tar --into resources/voc")
    run("unpack resources/archives/sbd.tgz --into resources/sbd --only benchmark_RELEASE/dataset/")
    run(
        "prepare voc resources/voc/VOCdevkit/VOC2012 --sbd resources/sbd/benchmark_RELEASE/dataset --subset "
        "--output resources/datasets/voc --manifests resources/voc/trainval.tar.json resources/sbd/sbd.tgz.json"
    )
    run("check resources/datasets/voc --splits val train_aug")

    manifest = read_json(Path("resources/voc/trainval.tar.json"))
    assert manifest["folders"]["VOCdevkit/VOC2012/JPEGImages"] == 700
    assert manifest["folders"]["VOCdevkit/VOC2012/SegmentationClass"] == 432
    description = read_json(Path("resources/datasets/voc/dataset.json"))
    assert description["sources"] == [
        {"archive": "trainval.tar", "sha256": manifest["sha256"]},
        {"archive": "sbd.tgz", "sha256": read_json(Path("resources/sbd/sbd.tgz.json"))["sha256"]},
    ]
    dataset = open_dataset("resources/datasets/voc")
    assert {name: set(split.ids) for name, split in dataset.splits.items()} == {k: set(v) for k, v in lists.items()}
    # Where VOC has a mask, its classes are the image's labels; SBD leaves out some small objects.
    facts = {name: check_split(dataset, name) for name in ("train", "val", "train_aug")}
    assert [(f.only_labels, f.only_masks) for f in (facts["train"], facts["val"])] == [(0, 0), (0, 0)]
    assert (facts["train_aug"].only_labels, facts["train_aug"].only_masks) == (24, 0)
    assert not any(found.problems for found in facts.values())
    own = np.asarray(Image.open(source / "VOCdevkit/VOC2012/SegmentationClassAug" / f"{lists['train_aug'][9]}.png"))
    split = dataset.split("train_aug")
    difference = read_mask(split.mask(lists["train_aug"][9])) != own
    assert not difference[own != 255].any()
    assert "tvmonitor" in capsys.readouterr().out


def without_train_aug(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """The real archive has neither SBD's masks nor the list."""
    return None if entry.name.endswith(("SegmentationClassAug", "train_aug.txt")) else entry


def sbd_of(root: Path, lists: dict[str, list[str]]) -> bytes:
    """The subset's masks in SBD's format; its lists are half of VOC's train, some of its val, and all others."""
    others = [name for name in lists["train_aug"] if name not in lists["train"]]
    train, val = others + lists["val"][::2], lists["train"][::2]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(f"benchmark_RELEASE/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

        add("README.txt", b"not asked for")
        add("dataset/train.txt", "\n".join(train).encode())
        add("dataset/val.txt", "\n".join(val).encode())
        for name in train + val:
            mask = np.asarray(Image.open(root / "SegmentationClassAug" / f"{name}.png"))
            content = io.BytesIO()
            scipy.io.savemat(content, {"GTcls": {"Segmentation": np.where(mask == 255, 0, mask)}}, do_compression=True)
            add(f"dataset/cls/{name}.mat", content.getvalue())
    return packed.getvalue()


def test_coco(photographs, server):
    source = photographs / "coco_subset"
    publish(server, {f"{name}.zip": zip_of(source / name) for name in ("train2014", "val2014", "annotations")})
    run("fetch train2014 val2014 annotations")
    for name in ("train2014", "val2014", "annotations"):
        run(f"unpack resources/archives/{name}.zip --into resources/coco")
    run("prepare coco resources/coco --output resources/datasets/coco --subset --crowd ignore")
    run("check resources/datasets/coco")
    dataset = open_dataset("resources/datasets/coco")
    assert len(dataset.classes) == 80
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 30,
        "train_without_objects": 2,
        "val": 6,
    }
    assert read_json(Path("resources/coco/train2014.zip.json"))["folders"] == {"train2014": 32}
    facts = check_split(dataset, "train")
    assert facts.only_masks == 0
    assert facts.unknown > 0  # its crowds


def zip_of(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{folder.name}/{path.name}")
    return packed.getvalue()


def test_bad_photographs_are_all_named(photographs, server, capsys):
    """One check finds a cut photograph and a mask with an unknown label; the rest is counted."""
    root = photographs / "voc_subset" / "VOCdevkit" / "VOC2012"
    ids = (root / "ImageSets/Segmentation/val.txt").read_text().split()[:4]
    for kind, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png"), ("Annotations", "xml")):
        for name in ids:
            path = Path("voc") / kind / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((root / kind / path.name).read_bytes())
    lists = Path("voc/ImageSets/Segmentation")
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text("\n".join(ids))
    run("prepare voc voc --output made --subset")
    photograph = Path("voc/JPEGImages") / f"{ids[1]}.jpg"
    photograph.write_bytes(photograph.read_bytes()[:9000])
    mask = Path("voc/SegmentationClass") / f"{ids[2]}.png"
    Image.fromarray(np.full_like(np.asarray(Image.open(mask)), 33)).save(mask)
    capsys.readouterr()
    assert main(["check", "made", "--splits", "val", "--workers", "2"]) == 1
    output = capsys.readouterr()
    assert "getam: error: 2 images cannot be used:" in output.err
    assert f"{ids[1]}.jpg cannot be read as an image" in output.err
    assert f"{ids[2]}.png: label 33, expected 0..20 or 255" in output.err
    assert "images" in output.out
