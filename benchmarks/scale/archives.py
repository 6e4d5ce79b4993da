"""Archives of VOC 2012, SBD and COCO 2014 in their true layouts and, at scale 1, with their true numbers of files.

Photographs are small and repeat. The files of COCO's instances have the true number and length of annotations.
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks.scale.templates import (
    SIZE,
    Template,
    sbd_mask_file,
    templates,
    voc_annotation,
    voc_mask_file,
)
from getam.data.voc import CLASSES
from getam.utils.files import written

_DISTINCT = 256  # photographs of each data set
# Photographs of VOC's trainval archive: of train and in SBD, of train alone, of val and in SBD, of val alone, of SBD
# alone, and others. SBD then has 11,355, train 1,464, val 1,449, and train_aug 10,582.
VOC_PARTS = {"train+sbd": 1364, "train": 100, "val+sbd": 873, "val": 576, "sbd": 9118, "other": 5094}
COCO_IMAGES = {"train": (82081, 702), "val": (40137, 367)}  # with and without objects
_COCO_CLASSES = 80
_COCO_INSTANCES = 7.37  # of an image with objects


def write_archives(folder: Path, scale: Fraction) -> dict[str, Path]:
    """Writes the archives that are missing; returns the path of each, by its name in config/archives.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        "voc2012_trainval": folder / "VOCtrainval_11-May-2012.tar",
        "sbd": folder / "benchmark.tgz",
        "coco2014_train": folder / "train2014.zip",
        "coco2014_val": folder / "val2014.zip",
        "coco2014_annotations": folder / "annotations_trainval2014.zip",
    }
    writers = {
        "voc2012_trainval": _write_voc,
        "sbd": _write_sbd,
        "coco2014_train": _write_coco_train,
        "coco2014_val": _write_coco_val,
        "coco2014_annotations": _write_coco_annotations,
    }
    for name, path in paths.items():
        if not path.is_file():
            with written(path) as unfinished:
                writers[name](unfinished, scale)
    return paths


def _part(whole: int, scale: Fraction) -> int:
    return max(2, round(whole * scale))


def voc_ids(scale: Fraction) -> dict[str, list[str]]:
    """The ids of each of `VOC_PARTS`; parts are interleaved in the order of the ids."""
    counts = {name: _part(count, scale) for name, count in VOC_PARTS.items()}
    parts = np.repeat(list(counts), list(counts.values()))
    np.random.default_rng(0).shuffle(parts)
    ids: dict[str, list[str]] = {name: [] for name in counts}
    for i, part in enumerate(parts.tolist()):
        ids[part].append(f"{2007 + 6 * i // len(parts)}_{i:06d}")
    return ids


def _voc_templates() -> list[Template]:
    return templates(_DISTINCT, len(CLASSES), 2.4, seed=1)


def _of(name: str) -> int:
    """The template of an id of VOC."""
    return int(name[5:]) % _DISTINCT


def _write_voc(path: Path, scale: Fraction) -> None:
    ids, known = voc_ids(scale), _voc_templates()
    train, val = (sorted(ids[split] + ids[f"{split}+sbd"]) for split in ("train", "val"))
    masks = [voc_mask_file(template) for template in known]
    with tarfile.open(path, "w") as tar:
        root = "VOCdevkit/VOC2012"
        for name in sorted(name for part in ids.values() for name in part):
            template = known[_of(name)]
            _add(tar, f"{root}/JPEGImages/{name}.jpg", template.photograph)
            _add(tar, f"{root}/Annotations/{name}.xml", voc_annotation(template, name))
        for name in train + val:
            _add(tar, f"{root}/SegmentationClass/{name}.png", masks[_of(name)])
            _add(tar, f"{root}/SegmentationObject/{name}.png", masks[_of(name)])
        for split, those in {"train": train, "val": val, "trainval": sorted(train + val)}.items():
            _add(tar, f"{root}/ImageSets/Segmentation/{split}.txt", "".join(f"{name}\n" for name in those).encode())


def _write_sbd(path: Path, scale: Fraction) -> None:
    ids = voc_ids(scale)
    masks = [sbd_mask_file(template) for template in _voc_templates()]
    names = sorted(ids["train+sbd"] + ids["val+sbd"] + ids["sbd"])
    cut = round(len(names) * 8498 / 11355)
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        root = "benchmark_RELEASE/dataset"
        for name in names:
            _add(tar, f"{root}/cls/{name}.mat", masks[_of(name)])
            _add(tar, f"{root}/inst/{name}.mat", masks[_of(name)])
        for split, those in {"train": names[:cut], "val": names[cut:]}.items():
            _add(tar, f"{root}/{split}.txt", "".join(f"{name}\n" for name in those).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _coco_templates() -> list[Template]:
    return templates(_DISTINCT, _COCO_CLASSES, _COCO_INSTANCES, seed=2)


def coco_images(split: str, scale: Fraction) -> list[tuple[int, str, int | None]]:
    """(id, file name, number of its template or None for an image without objects) of each image."""
    full, empty = (_part(count, scale) for count in COCO_IMAGES[split])
    first = {"train": 1, "val": 300_000}[split]
    order = np.random.default_rng(3).permutation(full + empty)
    return [
        (first + i, f"COCO_{split}2014_{first + i:012d}.jpg", None if order[i] >= full else i % _DISTINCT)
        for i in range(full + empty)
    ]


def _write_coco_train(path: Path, scale: Fraction) -> None:
    _write_coco_photographs(path, scale, "train")


def _write_coco_val(path: Path, scale: Fraction) -> None:
    _write_coco_photographs(path, scale, "val")


def _write_coco_photographs(path: Path, scale: Fraction, split: str) -> None:
    known = _coco_templates()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        for number, name, template in coco_images(split, scale):
            shown = number % _DISTINCT if template is None else template
            packed.writestr(f"{split}2014/{name}", known[shown].photograph)


def _write_coco_annotations(path: Path, scale: Fraction) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for split in COCO_IMAGES:
            with packed.open(f"annotations/instances_{split}2014.json", "w", force_zip64=True) as member:
                for piece in _instances(coco_images(split, scale)):
                    member.write(piece.encode())


def _instances(images: list[tuple[int, str, int | None]]) -> Iterator[str]:
    """The text of a file of instances, piece by piece."""
    licence = {"url": "http://creativecommons.org/licenses/by-nc-sa/2.0/", "id": 1, "name": "Attribution"}
    yield f'{{"info": {{"description": "generated"}}, "licenses": {json.dumps([licence])}, "images": ['
    yield ", ".join(_image(number, name) for number, name, _ in images)
    yield '], "annotations": ['
    yield from _annotations(images)
    categories = [{"supercategory": "thing", "id": _category(i), "name": f"class {i}"} for i in range(1, 81)]
    yield f'], "categories": {json.dumps(categories)}}}'


def _image(number: int, name: str) -> str:
    width, height = SIZE
    described = {"license": 1, "file_name": name, "coco_url": f"http://images.cocodataset.org/train2014/{name}"}
    described |= {"height": height, "width": width, "date_captured": "2013-11-14 11:18:45"}
    return json.dumps(
        {**described, "flickr_url": f"http://farm9.staticflickr.com/8186/{number:010d}_z.jpg", "id": number}
    )


def _annotations(images: list[tuple[int, str, int | None]]) -> Iterator[str]:
    """An image's annotations are spread over the file, as in COCO's: first one of each image, then the second ..."""
    known = [
        [_annotation(template, i, crowd=number % 13 == 0 and i == 0) for i in range(len(template.instances))]
        for number, template in enumerate(_coco_templates())
    ]
    identifier = 0
    for turn in range(max(map(len, known))):
        for number, _, template in images:
            if template is not None and turn < len(known[template]):
                identifier += 1
                comma = ", " if identifier > 1 else ""
                yield comma + known[template][turn] % (number, identifier)


def _annotation(template: Template, i: int, crowd: bool) -> str:
    """One annotation with places for the ids of its image and of itself."""
    label, outline = template.instances[i]
    (left, top), (right, bottom) = outline.min(0).tolist(), outline.max(0).tolist()
    shape: object = [outline.ravel().tolist()]
    if crowd:
        runs = [1 + i % 30 for i in range(98)]
        shape = {"counts": [*runs, SIZE[0] * SIZE[1] - sum(runs)], "size": [SIZE[1], SIZE[0]]}
    box = [round(value, 2) for value in (left, top, right - left, bottom - top)]
    return (
        f'{{"segmentation": {json.dumps(shape)}, "area": {box[2] * box[3] * 0.6}, "iscrowd": {int(crowd)}, '
        f'"image_id": %d, "bbox": {json.dumps(box)}, "category_id": {_category(label)}, "id": %d}}'
    )


def _category(label: int) -> int:
    return label + label // 9  # COCO's ids have gaps
