"""Time and memory of the jobs of a workflow, as Snakemake has measured them.

    python -m benchmarks.studies.collect_costs results/voc6/benchmarks --name voc6

A job that was interrupted counts from where it was resumed. Writes benchmarks/results/costs-<name>.csv.
"""

import argparse
import csv
from pathlib import Path

from benchmarks.measure import report_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder `benchmarks` of the results")
    parser.add_argument("--name", required=True, help="of the file")
    options = parser.parse_args()
    rows = []
    for path in sorted(options.folder.glob("*/*.tsv")):
        with path.open(newline="") as file:
            measured = next(csv.DictReader(file, delimiter="\t"))
        rows.append(
            {
                "rule": path.parent.name,
                "job": path.stem,
                "seconds": measured["s"],
                "seconds of the processor": measured["cpu_time"],
                "peak MiB": measured["max_rss"],
            }
        )
    if not rows:
        raise SystemExit(f"no measurements <rule>/<job>.tsv below {options.folder}")
    report_table(f"costs-{options.name}", rows)


if __name__ == "__main__":
    main()
