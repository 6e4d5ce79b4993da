"""`getam prepare`: unpacked archives, or nothing at all, to a prepared data set."""

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from getam.cli.options import HelpFormatter, add_workers
from getam.data import coco, shapes, voc
from getam.data.dataset import DataSet
from getam.utils.files import locked, read_json


def add(commands) -> None:
    """Adds `prepare` to the commands, with a verb of its own for each data set."""
    parser = commands.add_parser(
        "prepare",
        help="lists, image-level labels and masks of a data set",
        description="Writes dataset.json and a list per split: the images, what is in them, where they lie.",
    )
    datasets = parser.add_subparsers(required=True, metavar="DATASET")
    _add_voc(datasets)
    _add_coco(datasets)
    _add_shapes(datasets)


def _add_voc(datasets) -> None:
    parser = _add_dataset(datasets, "voc", "PASCAL VOC 2012, train_aug by SBD")
    parser.add_argument("root", type=Path, help="the folder VOC2012 of the unpacked trainval archive")
    parser.add_argument("--sbd", type=Path, help="the folder dataset of SBD's unpacked archive, for train_aug")
    parser.add_argument("--test", type=Path, help="the folder VOC2012 of the unpacked test archive")
    _add_common(parser)
    parser.set_defaults(
        run=lambda options: _prepare(
            options.output,
            lambda: voc.prepare(
                options.root,
                options.output,
                options.sbd,
                options.test,
                options.subset,
                _sources(options.manifests),
                options.workers,
            ),
        )
    )


def _add_coco(datasets) -> None:
    parser = _add_dataset(datasets, "coco", "COCO 2014, semantic masks rendered from the instances")
    parser.add_argument("root", type=Path, help="the folder of train2014, val2014 and annotations")
    parser.add_argument(
        "--crowd", choices=coco.CROWD, default="class", help="what a crowd region becomes: its class, or unknown (255)"
    )
    _add_common(parser)
    parser.set_defaults(
        run=lambda options: _prepare(
            options.output,
            lambda: coco.prepare(
                options.root,
                options.output,
                options.crowd,
                options.subset,
                _sources(options.manifests),
                options.workers,
            ),
        )
    )


def _add_shapes(datasets) -> None:
    parser = _add_dataset(datasets, "shapes", "drawn on the spot, for trying the chain")
    for field in fields(shapes.ShapesSettings):
        parser.add_argument(f"--{field.name}", type=int, default=field.default, help=_SHAPES_HELP[field.name])
    add_workers(parser)
    parser.set_defaults(
        run=lambda options: _prepare(
            options.output,
            lambda: shapes.prepare(
                options.output,
                shapes.ShapesSettings(options.side, options.train, options.val, options.test, options.seed),
                options.workers,
            ),
        )
    )


_SHAPES_HELP = {
    "side": "images are squares of this side, in pixels",
    "train": "images to train on",
    "val": "images to score on",
    "test": "images to score on once",
    "seed": "another seed draws another data set",
}


def _add_dataset(datasets, name: str, about: str) -> argparse.ArgumentParser:
    parser = datasets.add_parser(name, help=about, description=about, formatter_class=HelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the prepared data set")
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--subset", action="store_true", help="the root is a part of it: do not insist on the published counts"
    )
    parser.add_argument(
        "--manifests", type=Path, nargs="*", default=(), help="what `getam unpack` wrote, to be kept in the description"
    )
    add_workers(parser)


def _sources(manifests: list[Path]) -> list[dict]:
    read = [read_json(path) for path in manifests]
    return [{key: manifest[key] for key in ("archive", "sha256") if key in manifest} for manifest in read]


def _prepare(folder: Path, prepare: Callable[[], DataSet]) -> None:
    with locked(folder):
        dataset = prepare()
    for split in dataset.splits.values():
        known = " and ".join(
            what for what, there in (("labels", split.labels is not None), ("masks", split.masks)) if there
        )
        print(f"{split.name}: {len(split)} images{f' with {known}' if known else ''}")
    print(f"{dataset.name} is prepared in {dataset.folder}")
