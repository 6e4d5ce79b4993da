"""The dense CRF with more threads than free processors: they must wait without using the processor.

    python -m benchmarks.speed.crf_threads [--repeats 5]

One image of 500 x 375 with 21 labels, every label, 20 iterations, with 1, 2 and 8 threads: alone, and beside one busy
process per processor. Wall-clock and processor seconds: threads that wait by spinning show in the second. To see a
quota, run it in a container or a control group that has one (--place names it). Writes
benchmarks/results/crf_threads-<device>.csv.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

from benchmarks.measure import print_table, write_results
from benchmarks.speed.crf_interface import segmentation
from getam.utils.hardware import device_name
from getam_lattice import dense_crf

THREADS = (1, 2, 8)


@contextmanager
def busy_processors(count: int):
    """`count` processes that never wait."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(place: str, repeats: int) -> list[dict]:
    image, probabilities = segmentation(21, 500, 375)
    rows = []
    for threads in THREADS:
        wall, processor = [], []
        for _ in range(repeats):
            start = time.perf_counter(), time.process_time()
            dense_crf(image, probabilities, negligible=0, threads=threads)
            wall.append(time.perf_counter() - start[0])
            processor.append(time.process_time() - start[1])
        rows.append(
            {
                "place": place,
                "threads": threads,
                "repeats": repeats,
                "wall seconds": f"{statistics.median(wall):.2f}",
                "processor seconds": f"{statistics.median(processor):.2f}",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--place", default="alone", help="what the rows without busy processes are called")
    arguments = parser.parse_args()
    rows = measure(arguments.place, arguments.repeats)
    processors = len(os.sched_getaffinity(0))
    with busy_processors(processors):
        rows += measure(f"{arguments.place}, {processors} busy processes", arguments.repeats)
    device = device_name("cpu")
    rows = [{"device": device} | row for row in rows]
    path = write_results("crf_threads", device, rows)
    print_table(rows)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
