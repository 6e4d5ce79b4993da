"""`getam prepare`: writes a prepared data set from unpacked archives or photographs of your own, or draws shapes."""

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from getam.cli.options import HelpFormatter, add_workers
from getam.data import coco, folder, shapes, voc
from getam.data.dataset import DataSet
from getam.data.parts import PARTS
from getam.utils.files import locked, read_json


def add(commands) -> None:
    """Adds `prepare` to the commands, with a subcommand for each data set."""
    parser = commands.add_parser(
        "prepare",
        help="lists, image-level labels and masks of a data set",
        description="Writes dataset.json and a list per split: image ids, their classes, and the folders of the files. "
        "A part that needs archives of its own has a description of its own, and can be added later with --part.",
    )
    datasets = parser.add_subparsers(required=True, metavar="DATASET")
    _add_voc(datasets)
    _add_coco(datasets)
    _add_shapes(datasets)
    _add_folder(datasets)


def _add_voc(datasets) -> None:
    parser = _add_dataset(datasets, "voc", "PASCAL VOC 2012, train_aug by SBD")
    parser.add_argument("root", type=Path, help="the folder VOC2012 of the unpacked trainval archive")
    parser.add_argument("--sbd", type=Path, help="the folder dataset of SBD's unpacked archive, for train_aug")
    parser.add_argument("--masks", type=Path, help="a folder of <id>.png with masks of train_aug, in place of --sbd")
    parser.add_argument("--test", type=Path, help="the folder VOC2012 of the unpacked test archive")
    parser.add_argument(
        "--hold-out",
        type=int,
        metavar="COUNT",
        help="add two splits: train_aug_held_out, COUNT images of train_aug to choose settings on, and train_aug_fit",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed holds out other images")
    _add_common(parser, "voc")
    own = "sbd", "masks", "test", "hold_out", "seed"
    parser.set_defaults(run=_prepare, prepare=lambda options: _from_archives(options, voc.prepare, *own))


def _add_coco(datasets) -> None:
    parser = _add_dataset(datasets, "coco", "COCO 2014, semantic masks rendered from the instances")
    parser.add_argument("root", type=Path, help="the folder of train2014, val2014 and annotations")
    parser.add_argument(
        "--crowd",
        choices=coco.CROWD,
        default="class",
        help="how a crowd region is drawn: as its class, or as unknown (255)",
    )
    _add_common(parser, "coco")
    parser.set_defaults(run=_prepare, prepare=lambda options: _from_archives(options, coco.prepare, "crowd"))


def _add_shapes(datasets) -> None:
    parser = _add_dataset(datasets, "shapes", "synthetic images, for trying the chain")
    for field in fields(shapes.ShapesSettings):
        parser.add_argument(f"--{field.name}", type=int, default=field.default, help=_SHAPES_HELP[field.name])
    add_workers(parser)
    parser.set_defaults(run=_prepare, prepare=_draw_shapes)


def _draw_shapes(options: argparse.Namespace) -> DataSet:
    settings = {field.name: getattr(options, field.name) for field in fields(shapes.ShapesSettings)}
    return shapes.prepare(options.output, shapes.ShapesSettings(**settings), options.workers)


def _add_folder(datasets) -> None:
    parser = _add_dataset(datasets, "folder", "photographs of your own")
    parser.add_argument(
        "images", type=Path, help="folder of photographs; without --labels it has a folder for each class"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="columns id and classes: the path of a photograph below the folder, and its classes separated by |",
    )
    parser.add_argument("--masks", type=Path, help="folder of <id>.png with labels 0..C and 255, for scores alone")
    parser.add_argument(
        "--classes", nargs="+", metavar="NAME", help="classes in the order of the masks' labels (default: alphabetical)"
    )
    parser.add_argument(
        "--val",
        type=int,
        metavar="COUNT",
        help="images to evaluate on (default: a fifth; where fewer have a mask, all of those)",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other images for val")
    add_workers(parser)
    parser.set_defaults(run=_prepare, prepare=_from_folder)


def _from_folder(options: argparse.Namespace) -> DataSet:
    own = {name: getattr(options, name) for name in ("labels", "masks", "classes", "val", "seed", "workers")}
    return folder.prepare(options.images, options.output, **own)


_SHAPES_HELP = {
    "side": "images are squares of this side, in pixels",
    "train": "images to train on",
    "val": "images to evaluate on",
    "test": "images of the test split",
    "seed": "another seed draws another data set",
}


def _add_dataset(datasets, name: str, about: str) -> argparse.ArgumentParser:
    parser = datasets.add_parser(name, help=about, description=about, formatter_class=HelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the prepared data set")
    return parser


def _add_common(parser: argparse.ArgumentParser, kind: str) -> None:
    holds = "; ".join(f"{part}: {', '.join(splits)}" for part, splits in PARTS[kind].items())
    parser.add_argument(
        "--part", choices=list(PARTS[kind]), help=f"prepare these splits alone ({holds}); default: all that are there"
    )
    parser.add_argument(
        "--subset", action="store_true", help="the root is a part of the data set: do not check the published counts"
    )
    parser.add_argument(
        "--manifests",
        type=Path,
        nargs="*",
        default=(),
        help="JSON files of `getam unpack`; their checksums are kept in dataset.json",
    )
    add_workers(parser)


def _from_archives(options: argparse.Namespace, prepare: Callable[..., DataSet], *own: str) -> DataSet:
    """Calls `prepare` of a data set; `own` are the options that only this data set has."""
    settings = {name: getattr(options, name) for name in own}
    sources = _sources(options.manifests)
    return prepare(
        options.root,
        options.output,
        subset=options.subset,
        sources=sources,
        workers=options.workers,
        part=options.part,
        **settings,
    )


def _sources(manifests: list[Path]) -> list[dict]:
    read = [read_json(path) for path in manifests]
    return [{key: manifest[key] for key in ("archive", "sha256") if key in manifest} for manifest in read]


def _prepare(options: argparse.Namespace) -> None:
    part = getattr(options, "part", None)
    with locked(options.output if part is None else options.output / part):
        dataset = options.prepare(options)
    kind = PARTS[dataset.name]
    for name in dataset.splits if part is None else kind[part]:
        if name not in dataset.splits:  # COCO's images without objects: a subset may have none
            continue
        split = dataset.split(name)
        known = " and ".join(
            what for what, there in (("labels", split.labels is not None), ("masks", split.masks)) if there
        )
        print(f"{split.name}: {len(split)} images{f' with {known}' if known else ''}")
    print(f"{dataset.name} is prepared in {dataset.folder}")
