"""`getam saliency`: a saliency map of every image of a prepared data set."""

import argparse
from pathlib import Path

from getam.cli.fetch import FOLDER
from getam.cli.options import HelpFormatter, add_device, add_workers
from getam.data.dataset import open_dataset
from getam.data.saliency.maps import DEFAULT_THRESHOLDS, KEEP, OTSU, SOURCES, SaliencySettings, make_saliency
from getam.data.saliency.onnx_models import MODELS
from getam.utils.progress import progress


def add(commands) -> None:
    """Adds `saliency` to the commands."""
    default = SaliencySettings()
    parser = commands.add_parser(
        "saliency",
        help="compute a saliency map of every image",
        description="Writes <id>.png, 8 bits, of the image's size, for every image; resumes an interrupted run. "
        "Training takes a pixel as salient where the map is above 0.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("dataset", type=Path, help="folder written by `getam prepare`")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder for <id>.png")
    parser.add_argument("--splits", nargs="+", help="splits (default: all)")
    parser.add_argument(
        "--source",
        choices=SOURCES,
        default=default.source,
        help=f"{', '.join(MODELS)}: a network; background: contrast to the image's border, on superpixels; border: the "
        "same on pixels, for tiny images; authors, pfan: published maps, --path needed; folder: maps of your own, "
        "--path needed; truth: the masks, an upper bound for studies",
    )
    parser.add_argument(
        "--path",
        type=Path,
        help="network: its ONNX file (default: where `getam fetch SOURCE` puts it); "
        "authors, pfan, folder: the folder of <id>.png, at any depth",
    )
    parser.add_argument(
        "--threshold",
        type=_threshold,
        help=f"0..254: values above it are salient; {OTSU}: a threshold for each map; {KEEP}: the maps stay graded "
        f"(default: {', '.join(f'{source} {value}' for source, value in DEFAULT_THRESHOLDS.items())})",
    )
    add_workers(parser)
    add_device(parser)
    parser.set_defaults(run=_run)


def _threshold(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _run(options: argparse.Namespace) -> None:
    path = options.path
    if path is None and options.source in MODELS:
        path = FOLDER / MODELS[options.source].file
    settings = SaliencySettings(options.source, path, options.threshold)
    dataset = open_dataset(options.dataset)
    splits = options.splits or list(dataset.splits)
    maps = make_saliency(dataset, splits, options.output, settings, options.workers, options.device)
    total = len({name for split in splits for name in dataset.split(split).ids})
    count = sum(1 for _ in progress(maps, total=total, desc="saliency", unit="image"))
    print(f"{count} maps in {options.output}")
