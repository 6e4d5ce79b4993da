"""Pixels of each image by true and found label, for every run below a folder: what rows of tables are compared by.

    python -m benchmarks.studies.collect_counts results/voc6/experiments --split val --name voc6

Differences between two networks need their counts on the same images, and a network is large while its counts are
small: so runs of different days and machines can be compared (benchmarks/studies/compare_rows.py). With --maps the raw
maps of each run are computed, too, by its own method, at the threshold that is best for all images.

Writes benchmarks/results/counts-<name>/<run>.csv.gz and counts-<name>/images.csv.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks import measure
from benchmarks.studies.paired import counts_of, write_counts
from benchmarks.studies.run_maps import best_threshold, thresholded
from getam.config.tables import MASKS
from getam.data.dataset import Split
from getam.data.images import read_mask
from getam.evaluation.run import Run
from getam.utils.progress import progress


def counts_of_run(run: Run, split: Split, maps: bool) -> dict[str, np.ndarray]:
    """Output of the run (a key of `getam.config.tables.SCORE_FILES`) -> counts as `counts_of` returns them.

    Raises:
        ValueError: an output is stale.
    """
    found, classes = {}, len(run.dataset.classes)
    for what in MASKS:
        folder = run.folder / split.name / what
        if all((folder / f"{name}.png").is_file() for name in split.ids):
            run.check_current(folder)
            found[what] = counts_of(split, classes, lambda name, folder=folder: read_mask(folder / f"{name}.png"))
    if maps and run.experiment.has_maps:
        by_threshold = thresholded(run, split, run.experiment.training.crop, run.experiment.maps.method)
        best = by_threshold[:, best_threshold(by_threshold)]
        found["maps"] = np.pad(best, ((0, 0), (0, 0), (0, 1)))  # no pixel of a map is unknown
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of runs")
    parser.add_argument("--split", default="val")
    parser.add_argument("--maps", action="store_true", help="raw maps, too: some minutes for each run")
    parser.add_argument("--name", required=True, help="of the folder that is written")
    options = parser.parse_args()
    runs = [Run(path.parent) for path in sorted(options.folder.glob("*/provenance.json"))]
    folder, written = measure.RESULTS / f"counts-{options.name}", []
    for run in progress(runs, unit="run"):
        split = run.dataset.split(options.split)
        if found := counts_of_run(run, split, options.maps):
            written.append(write_counts(folder / f"{run.folder.name}.csv.gz", split.ids, found))
    if not written:
        raise SystemExit(f"no masks of split {options.split} below {options.folder}")
    classes = [int(count) for count in split.labels.sum(1)]
    rows = [{"image": name, "classes": count} for name, count in zip(split.ids, classes, strict=True)]
    measure.write_table(folder / "images.csv", rows)
    print(f"{len(written)} runs in {folder}")


if __name__ == "__main__":
    main()
