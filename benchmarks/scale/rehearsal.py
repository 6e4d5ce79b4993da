"""The whole chain on data of the true size: time, memory and files of every step, at several scales.

    python -m benchmarks.scale.rehearsal FOLDER --scales 1/16 1/4 1

Generates archives of VOC 2012, SBD and COCO 2014 with small photographs below FOLDER, in the true layouts and, at scale
1, with the true numbers of files and annotations; then runs the ordinary commands, each in a process of its own, from
`unpack` to the report. Writes benchmarks/results/scale-<scale>.csv.

A rehearsal that was interrupted goes on: steps that are finished are not repeated. At scale 1 it needs about 10 GB and
some hours on two cores.
"""

import argparse
import csv
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from benchmarks.measure import RESULTS, print_table, write_table
from benchmarks.scale.archives import write_archives
from benchmarks.scale.measuring import count_files, measure
from benchmarks.scale.steps import CONFIGURATION, CORES, ROOT, Step, configuration, steps
from getam.utils.hardware import device_name

_MEASURED = "measured.csv"


def rehearse(folder: Path, scale: Fraction) -> Iterator[list[dict[str, str]]]:
    """Runs the steps of one scale that are not finished; yields a row for each finished one, after every step."""
    archives = write_archives(folder / "archives", scale)
    (folder / CONFIGURATION).write_text(json.dumps(configuration(), indent=2))
    done = {(row["data"], row["step"]): row for row in _read(folder / _MEASURED)}
    order = {(step.data, step.name): step for step in steps(archives, whole=scale == 1)}
    for key, step in order.items():
        if key not in done:
            done[key] = _row(folder, scale, step)
            print(" ".join(f"{column}={value}" for column, value in done[key].items()), flush=True)
        rows = [done[key] for key in order if key in done]
        write_table(folder / _MEASURED, rows)
        yield rows


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _row(folder: Path, scale: Fraction, step: Step) -> dict[str, str]:
    outputs = [folder / output for output in step.outputs]
    for path in outputs:
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
    number = f"{step.data} {step.name}".replace(" ", "_")
    found = measure(step.command, folder, _environment(), folder / "logs" / f"{number}.log")
    return {
        "scale": str(scale),
        "data": step.data,
        "step": step.name,
        "images": str(round(step.images * scale)),
        "seconds": f"{found.seconds:.1f}",
        "cpu_seconds": f"{found.cpu_seconds:.1f}",
        "memory_mib": f"{found.memory_mib:.0f}",
        "largest_process_mib": f"{found.largest_mib:.0f}",
        "files": str(count_files(outputs)),
    }


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # Photographs of 64 x 48 are too small to share one among threads.
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def compare(scales: list[Fraction]) -> list[dict[str, str]]:
    """A row for each step: its numbers at each scale, separated by slashes; `-` where it is not finished."""
    measured = [{(row["data"], row["step"]): row for row in _read(_results(scale))} for scale in scales]
    rows = []
    for data, step in max(measured, key=len):
        found = [of_scale.get((data, step)) for of_scale in measured]
        columns = {
            "images": _images,
            "seconds": _seconds,
            "CPU s / 1000 images": _rate,
            "MiB": _memory,
            "files": _files,
        }
        rows.append({"step": f"{data}: {step}"})
        for column, of_row in columns.items():
            rows[-1][column] = " / ".join("-" if row is None else of_row(row) for row in found)
    return rows


def _images(row: dict[str, str]) -> str:
    return f"{int(row['images']):,}"


def _seconds(row: dict[str, str]) -> str:
    return f"{float(row['seconds']):.0f}"


def _rate(row: dict[str, str]) -> str:
    images = int(row["images"])
    return f"{1000 * float(row['cpu_seconds']) / images:.1f}" if images else f"{row['cpu_seconds']} in all"


def _memory(row: dict[str, str]) -> str:
    return f"{int(row['memory_mib']):,}"


def _files(row: dict[str, str]) -> str:
    return f"{int(row['files']):,}"


_COLUMNS = {"images": _images, "seconds": _seconds, "CPU s / 1000 images": _rate, "MiB": _memory, "files": _files}


def _results(scale: Fraction) -> Path:
    return RESULTS / f"scale-{str(scale).replace('/', '-')}.csv"


def main() -> None:
    """Rehearses each scale and prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where everything is written; 10 GB at scale 1")
    parser.add_argument("--scales", type=Fraction, nargs="+", default=[Fraction(1, 16), Fraction(1, 4)])
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the running command ends, too
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    for scale in options.scales:
        folder = options.folder.absolute() / str(scale).replace("/", "-")
        for rows in rehearse(folder, scale):
            write_table(_results(scale), [{**row, "device": device_name("cpu")} for row in rows])
    if rows := compare(options.scales):
        print_table(rows)


if __name__ == "__main__":
    main()
