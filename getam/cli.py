"""The `getam` command."""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from getam.crf import BACKENDS
from getam.postprocessing import CrfSettings, find_jobs, refine_files


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command: 0, or 1 after an error that is the input's."""
    parser = argparse.ArgumentParser(prog="getam", description="GETAM: segmentation from image-level labels.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_refine(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError, ImportError, MemoryError) as error:
        print(f"getam: error: {error}", file=sys.stderr)
        return 1
    except BrokenProcessPool:
        print("getam: error: a worker process was ended, most likely for memory: try fewer --workers", file=sys.stderr)
        return 1
    return 0


def _add_refine(commands) -> None:
    default = CrfSettings()
    parser = commands.add_parser(
        "refine",
        help="probabilities and images to masks, by the dense CRF",
        description="Refines probabilities with a dense CRF and writes the most probable labels as palette PNGs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "probabilities", type=Path, help="folder of <id>.npy or <id>.npz, (C + 1, H, W), any float type"
    )
    parser.add_argument("images", type=Path, help="folder of <id>.jpg, .jpeg or .png")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="MASKS", help="folder for <id>.png", default=argparse.SUPPRESS
    )
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
    parser.add_argument(
        "--workers", type=_positive, default=available_cores(), help="images at once, each in a process of its own"
    )
    parser.set_defaults(run=_refine)


def _refine(options: argparse.Namespace) -> None:
    settings = CrfSettings(
        options.iterations,
        tuple(options.gaussian),
        tuple(options.bilateral),
        options.backend,
        options.negligible,
        options.bgr,
    )
    jobs = find_jobs(options.probabilities, options.images, options.output)
    for _ in tqdm(refine_files(jobs, settings, options.workers), total=len(jobs), desc="refine", unit="image"):
        pass
    print(f"{len(jobs)} masks in {options.output}")


def available_cores() -> int:
    """The cores that this process may use, which a cluster's scheduler may have made fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
