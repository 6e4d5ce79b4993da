"""`getam refine`: probabilities to masks by the dense CRF, for a run or for any folder."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from getam.cli.options import (
    HelpFormatter,
    add_device,
    add_experiment,
    add_shard,
    add_workers,
    follow,
    open_run,
    positive,
)
from getam.evaluation.masks import find_jobs, refine_files
from getam.lattice.settings import BACKENDS, CrfSettings

if TYPE_CHECKING:
    import torch


def add(commands) -> None:
    """Adds `refine` to the commands."""
    default = CrfSettings()
    parser = commands.add_parser(
        "refine",
        help="probabilities and images to masks, by the dense CRF",
        usage="getam refine RUN --split S [S ...] [--without-crf | --known-classes] [--discard] [--shard I/N]\n"
        "                    [--workers N] [--device D] [--batch N]\n"
        "       getam refine PROBABILITIES IMAGES --output MASKS [settings of the CRF]\n"
        "                    [--workers N] [--device D] [--batch N]",
        description="Refines probabilities with a dense CRF and writes the most probable labels as palette PNGs. Of a "
        "run's split it uses the experiment's settings and also writes masks without the CRF.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "folder",
        type=Path,
        help="RUN with predictions of `getam predict`, or folder of <id>.npy or .npz, (C + 1, H, W)",
    )
    parser.add_argument("images", type=Path, nargs="?", help="folder of <id>.jpg, .jpeg or .png")
    parser.add_argument("--split", nargs="+", help="of a run: splits to refine")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--without-crf", action="store_true", help="of a run: only masks without the CRF")
    kinds.add_argument(
        "--known-classes",
        action="store_true",
        help="of a run: only masks with the CRF, restricted to the classes that each image is labelled with, to "
        "RUN/<split>/masks_known_classes, to teach other networks",
    )
    parser.add_argument(
        "--discard", action="store_true", help="of a run: remove the probabilities when all masks are there"
    )
    add_experiment(parser)
    add_shard(parser)
    parser.add_argument("--output", type=Path, metavar="MASKS", help="of a folder: where <id>.png are written")
    parser.add_argument("--backend", choices=BACKENDS, default=default.backend, help="implementation")
    parser.add_argument("--iterations", type=int, default=default.iterations, help="mean-field iterations")
    parser.add_argument(
        "--gaussian",
        type=float,
        nargs=2,
        default=default.gaussian,
        metavar=("SIGMA_XY", "COMPATIBILITY"),
        help="kernel on positions",
    )
    parser.add_argument(
        "--bilateral",
        type=float,
        nargs=3,
        default=default.bilateral,
        metavar=("SIGMA_XY", "SIGMA_RGB", "COMPATIBILITY"),
        help="kernel on positions and colours",
    )
    parser.add_argument(
        "--negligible",
        type=float,
        default=default.negligible,
        help="labels below this probability at every pixel send no messages; 0: all labels do, as always on a GPU",
    )
    parser.add_argument("--bgr", action="store_true", help="pass images in BGR order, as the released test script does")
    add_workers(parser)
    add_device(parser, default="cpu")
    parser.add_argument("--batch", type=positive, default=4, help="images of one size at once on a GPU")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.split:
        _refine_run(options)
    elif options.images is None or options.output is None:
        raise ValueError("refine: expected RUN and --split, or PROBABILITIES, IMAGES and --output")
    else:
        _refine_folder(options)


def _refine_run(options: argparse.Namespace) -> None:
    if options.images is not None or options.output is not None:
        raise ValueError("refine: with --split, IMAGES and --output are not needed; the run determines both")
    run = open_run(options)
    for split in options.split:
        total = len(options.shard.of(run.dataset.split(split).ids))
        settings = not options.without_crf, options.shard, options.workers, options.discard
        paths = run.refine(split, *settings, _gpu(options), options.batch, options.known_classes)
        follow(paths, total, f"refine {split}")


def _refine_folder(options: argparse.Namespace) -> None:
    settings = CrfSettings(
        options.iterations,
        tuple(options.gaussian),
        tuple(options.bilateral),
        options.backend,
        options.negligible,
        options.bgr,
    )
    jobs = find_jobs(options.folder, options.images, options.output)
    device = _gpu(options)
    if device is None:
        paths = refine_files(jobs, settings, options.workers)
    else:
        from getam.evaluation.device_masks import refine_files_on_device

        paths = refine_files_on_device(jobs, settings, device, options.batch, options.workers)
    follow(paths, len(jobs), "refine")


def _gpu(options: argparse.Namespace) -> "torch.device | None":
    """The GPU that the CRF runs on, or None: on the CPU."""
    if options.device == "cpu":
        return None
    from getam.utils.hardware import choose_device

    device = choose_device(options.device)
    return device if device.type == "cuda" else None
