"""Photographs of your own: a folder of images with a list of their classes, or one folder for each class."""

import csv
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from getam.constants import BASE, UNKNOWN
from getam.data.dataset import SEPARATOR, DataSet, Split
from getam.data.hold_out import draw, subset
from getam.data.images import IMAGE_SUFFIXES, image_size
from getam.data.preparation import Part, begin_dataset, write_dataset
from getam.utils.checks import check_known, check_whole, shortened

_log = logging.getLogger(__name__)
IMAGES, MASKS = "linked_images", "linked_masks"  # folders of links inside the prepared one
COLUMNS = ("id", "classes")
_FORBIDDEN = re.compile(r"[^\w.-]+")  # in ids


@dataclass(frozen=True)
class _Found:
    """Photographs by id; `names` has the path of each below the folder, without its suffix."""

    paths: Mapping[str, Path]
    names: Mapping[str, str]


def prepare(
    images: Path,
    folder: Path,
    labels: Path | None = None,
    masks: Path | None = None,
    classes: Sequence[str] | None = None,
    val: int | None = None,
    seed: int = 0,
    workers: int = 1,
) -> DataSet:
    """Writes the splits `train` and `val` of a folder of photographs.

    The photographs stay where they are; `folder` gets links to them under their ids. An id is the photograph's path
    below `images` without its suffix, with _ in place of other characters than letters, digits and . _ -.

    Args:
        images: photographs (.jpg, .jpeg, .png) at any depth.
        labels: CSV with the columns id and classes: the path of a photograph below `images`, with or without suffix,
            and its classes separated by |, or none. Photographs that are not listed are left out. None: a photograph's
            class is the folder below `images` that it is in.
        masks: folder of <path>.png or <id>.png with label 0 for the background, 1..C for the classes in their order and
            255 for unknown. They are used for scores alone. Where only some photographs have one, `val` is drawn from
            these.
        classes: names in the order of the masks' labels; None: in alphabetical order.
        val: number of images to evaluate on; None: a fifth, or where fewer have a mask all of those.
        seed: another seed draws other images.
        workers: processes that read masks.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: a file is missing, in the way, unreadable or says something
            impossible; the message names it.
    """
    found = _photographs(images, [place for place in (folder, masks) if place is not None])
    named = _by_folder(found) if labels is None else _by_list(labels, images, found)
    names = _class_names(named.values(), classes, str(labels or images))
    ids = tuple(named)
    for name in ids:
        image_size(found.paths[name])  # the header can be read
    truth = {} if masks is None else _masks(masks, found, ids)
    present = np.array([[category in named[name] for category in names] for name in ids], np.float32)
    suffixes = {found.paths[name].suffix for name in ids}
    everything = Split("all", ids, present, folder / IMAGES, suffixes.pop() if len(suffixes) == 1 else "", None)
    chosen = _drawn(ids, [name for name in ids if name in truth] if masks else ids, val, seed)
    splits = []
    for name, its in (("train", set(ids) - chosen), ("val", chosen)):
        has_masks = masks is not None and its <= set(truth)
        split = subset(everything, name, its)
        splits.append(replace(split, masks=folder / MASKS if has_masks else None))
    _warn_of_classes(splits[0], names)

    begin_dataset(folder, "folder")
    _link(folder / IMAGES, {everything.image(name).name: found.paths[name] for name in ids})
    if truth or (folder / MASKS).is_dir():
        _link(folder / MASKS, {f"{name}.png": path for name, path in truth.items()})
    return write_dataset(
        folder, "folder", names, {BASE: Part(splits, {"seed": seed})}, read_masks=True, workers=workers
    )


def _photographs(images: Path, others: Sequence[Path]) -> _Found:
    """`others`: folders that may be inside `images` and hold no photographs."""
    if not images.is_dir():
        raise FileNotFoundError(f"no folder {images}; it is the folder of the photographs")
    left_out = {place.resolve() for place in others}
    paths, names = {}, {}
    for path in sorted(images.rglob("*")):
        name = path.relative_to(images).with_suffix("")
        hidden = any(part.startswith(".") for part in name.parts)
        if path.suffix.lower() not in IMAGE_SUFFIXES or hidden or left_out & set(path.resolve().parents):
            continue
        identity = _FORBIDDEN.sub("_", "_".join(name.parts))
        if identity in paths:
            raise ValueError(f"{paths[identity]} and {path} would both have the id {identity}; rename one of them")
        paths[identity], names[identity] = path, name.as_posix()
    if not paths:
        raise FileNotFoundError(f"no photograph ({', '.join(IMAGE_SUFFIXES)}) in {images}")
    return _Found(paths, names)


def _by_folder(found: _Found) -> dict[str, set[str]]:
    """The classes of each id: the first folder on its path."""
    for identity, name in found.names.items():
        if "/" not in name:
            raise ValueError(
                f"{found.paths[identity]} is in no folder of a class; list the classes of the photographs with --labels"
            )
    return {identity: {name.split("/")[0]} for identity, name in found.names.items()}


def _by_list(path: Path, images: Path, found: _Found) -> dict[str, set[str]]:
    """The classes of each id that is listed, in the order of the list."""
    if not path.is_file():
        raise FileNotFoundError(f"no list of classes {path}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not set(COLUMNS) <= set(reader.fieldnames or ()):
                raise ValueError(f"expected the columns {','.join(COLUMNS)}, found {','.join(reader.fieldnames or ())}")
            rows = [(reader.line_num, row) for row in reader]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a list of classes: {error}") from error
    ids = {name: identity for identity, name in found.names.items()}
    ids |= {found.paths[identity].relative_to(images).as_posix(): identity for identity in found.names}
    named: dict[str, set[str]] = {}
    for line, row in rows:
        if None in row:
            raise ValueError(f"{path}, line {line}: more fields than columns; separate classes by {SEPARATOR}")
        name = (row["id"] or "").strip()
        identity = ids.get(name)
        if identity is None:
            raise FileNotFoundError(f"{path}, line {line}: no photograph {name!r} in {images}")
        if identity in named:
            raise ValueError(f"{path}, line {line}: {name!r} is listed twice; separate classes by {SEPARATOR}")
        named[identity] = {name.strip() for name in (row["classes"] or "").split(SEPARATOR)} - {""}
    if not named:
        raise ValueError(f"{path} lists no photograph")
    if missing := sorted(set(found.paths) - set(named)):
        _log.warning("%s: %d photographs are not listed and left out: %s", path, len(missing), shortened(missing))
    return named


def _class_names(named: Iterable[set[str]], given: Sequence[str] | None, where: str) -> tuple[str, ...]:
    occurring = sorted(set().union(*named))
    if given is not None:
        if len(set(given)) < len(given):
            raise ValueError(f"classes: {next(name for name in given if given.count(name) > 1)!r} is named twice")
        for name in occurring:
            check_known(where, name, given)
    names = tuple(occurring if given is None else given)
    if not occurring:
        raise ValueError(f"{where}: no photograph has a class")
    if "background" in names:
        raise ValueError(f"{where}: 'background' is label 0 and no class; a photograph without objects has no class")
    if len(names) >= UNKNOWN:
        raise ValueError(f"{where}: {len(names)} classes, but masks have room for {UNKNOWN - 1}")
    return names


def _masks(masks: Path, found: _Found, ids: Iterable[str]) -> dict[str, Path]:
    """The mask of each id that has one."""
    if not masks.is_dir():
        raise FileNotFoundError(f"no folder of masks {masks}")
    names = {name: [masks / f"{found.names[name]}.png", masks / f"{name}.png"] for name in ids}
    truth = {name: path for name, paths in names.items() for path in paths[::-1] if path.is_file()}
    if not truth:
        raise FileNotFoundError(f"no mask of any photograph in {masks}; expected names such as {next(iter(names))}.png")
    return truth


def _drawn(ids: Sequence[str], eligible: Sequence[str], val: int | None, seed: int) -> set[str]:
    """The images of val, drawn from the eligible ones."""
    if len(ids) < 2:
        raise ValueError("one photograph cannot be split: at least two are needed")
    if val is not None:
        check_whole(1, val=val)
        if val > len(eligible) < len(ids):
            raise ValueError(f"val: {val} images were asked for, but only {len(eligible)} have a mask")
    count = min(max(1, len(ids) // 5), len(eligible)) if val is None else val
    return set(eligible) if count == len(eligible) < len(ids) else draw(eligible, count, seed)


def _warn_of_classes(train: Split, names: Sequence[str]) -> None:
    """The classifier, from which the maps come, learns only what tells photographs apart."""
    counts = train.labels.sum(0)
    for number, what in ((0, "no"), (len(train), "every")):
        if those := [name for name, count in zip(names, counts, strict=True) if count == number]:
            _log.warning("%s photograph of train has the class %s: it cannot be learned", what, shortened(those))


def _link(folder: Path, targets: Mapping[str, Path]) -> None:
    """Links by name, in place of all earlier links; relative ones where the target was given so."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if not path.is_symlink():
            raise FileExistsError(f"{path} is no link of an earlier preparation: choose another --output")
        path.unlink()
    for name, target in targets.items():
        there = target if target.is_absolute() else os.path.relpath(target.resolve(), folder.resolve())
        (folder / name).symlink_to(there)
