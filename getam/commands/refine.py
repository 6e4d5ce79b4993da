"""`getam refine`: probabilities and images to masks, by the dense CRF."""

import argparse
from pathlib import Path

from getam.commands.options import HelpFormatter, add_workers
from getam.crf import BACKENDS
from getam.postprocessing import CrfSettings, find_jobs, refine_files
from getam.progress import progress


def add(commands) -> None:
    """Adds `refine` to the commands."""
    default = CrfSettings()
    parser = commands.add_parser(
        "refine",
        help="probabilities and images to masks, by the dense CRF",
        description="Refines probabilities with a dense CRF and writes the most probable labels as palette PNGs.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "probabilities", type=Path, help="folder of <id>.npy or <id>.npz, (C + 1, H, W), any float type"
    )
    parser.add_argument("images", type=Path, help="folder of <id>.jpg, .jpeg or .png")
    parser.add_argument("--output", type=Path, required=True, metavar="MASKS", help="folder for <id>.png")
    parser.add_argument("--backend", choices=BACKENDS, default=default.backend, help="who calculates")
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
        help="labels below this probability everywhere send no messages; 0: all do",
    )
    parser.add_argument(
        "--bgr", action="store_true", help="hand over images in BGR order, as the released test script does"
    )
    add_workers(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    settings = CrfSettings(
        options.iterations,
        tuple(options.gaussian),
        tuple(options.bilateral),
        options.backend,
        options.negligible,
        options.bgr,
    )
    jobs = find_jobs(options.probabilities, options.images, options.output)
    for _ in progress(refine_files(jobs, settings, options.workers), total=len(jobs), desc="refine", unit="image"):
        pass
    print(f"{len(jobs)} masks in {options.output}")
