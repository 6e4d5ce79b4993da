"""The tables of a configuration from the counts of its runs: means over seeds, and differences with intervals.

    python -m benchmarks.studies.compare_rows config/voc6.yaml --reference paper --name voc6

Reads benchmarks/results/counts-<name> (benchmarks/studies/collect_counts.py). Each row has the mean and the standard
deviation over its seeds for all images, the means for images of one class and of several, and its difference from the
same output of the entry `--reference`, averaged over the seeds that both have, with an interval over the images
(benchmarks/studies/paired.py). Rows that are differences themselves are left out. A row without counts is `not run`.

Writes benchmarks/results/tables-<name>.csv.
"""

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks import measure
from benchmarks.studies.paired import columns, grouped, miou, read_counts
from getam.config.experiment_file import parse_yaml
from getam.config.tables import Row, rows_of

Counts = Mapping[str, np.ndarray]  # output of a run -> pixels (M, C + 1, C + 2)


def runs_of_entry(entry: str, runs: Mapping[str, Counts]) -> dict[str, Counts]:
    """Seed (empty for the entry's own, which is the first) -> counts of the run."""
    found = {name.removeprefix(entry): counts for name, counts in runs.items() if name.startswith(entry)}
    seeds = [seed for seed in found if not seed or seed.startswith("-seed")]
    return {seed: found[seed] for seed in sorted(seeds, key=lambda seed: (len(seed), seed))}


def table_row(
    row: Row, reference: str, runs: Mapping[str, Counts], groups: Mapping[str, np.ndarray]
) -> dict[str, str | int]:
    """The columns of a row; those of numbers are empty where there are no counts."""
    of_row, of_reference = (
        {seed: counts[row.what] for seed, counts in runs_of_entry(entry, runs).items() if row.what in counts}
        for entry in (row.experiment, reference)
    )
    own = columns(list(of_row.values()), None, groups) if of_row else dict.fromkeys(groups, "")
    points = [miou(counts.sum(0)) for counts in of_row.values()]
    shared = [seed for seed in of_row if seed in of_reference and row.experiment != reference]
    both = columns([of_row[s] for s in shared], [of_reference[s] for s in shared], groups) if shared else {}
    return {
        "labels": row.what,
        "state": "run" if of_row else "not run",
        "seeds": len(of_row),
        **{group: own[group] for group in groups},
        "standard deviation": f"{np.std(points, ddof=1):.1f}" if len(points) > 1 else "",
        "of each seed": " ".join(f"{value:.1f}" for value in points),
        **{f"difference, {group}": both.get(f"difference, {group}", "") for group in groups},
        "shared seeds": len(shared),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("--reference", required=True, metavar="ENTRY", help="that each row is compared with")
    parser.add_argument("--split", default="val", help="split of the counts; rows of other splits are left out")
    parser.add_argument("--name", required=True, help="of the counts and of the file")
    options = parser.parse_args()
    folder = measure.RESULTS / f"counts-{options.name}"
    with (folder / "images.csv").open(newline="") as file:
        classes = {row["image"]: int(row["classes"]) for row in csv.DictReader(file)}
    groups = grouped(np.array(list(classes.values())))
    paths = sorted(folder.glob("*.csv.gz"))
    runs = {path.name.removesuffix(".csv.gz"): read_counts(path, tuple(classes)) for path in paths}
    config = parse_yaml(options.config.read_text())
    rows = [
        {"table": table, "row": row.row, **table_row(row, options.reference, runs, groups)}
        for table in config["tables"]
        for row in rows_of(table, config)
        if row.experiment and not row.minus and row.split == options.split
    ]
    measure.report_table(f"tables-{options.name}", rows)


if __name__ == "__main__":
    main()
