"""The mIoU of every run below a folder, side by side: predictions, without CRF, pseudo labels, raw maps.

    python -m benchmarks.studies.collect_scores results/voc6/experiments --split val --name voc6

Writes benchmarks/results/scores-<name>.csv; a missing score is left empty.
"""

import argparse
import csv
from pathlib import Path

from benchmarks.measure import report_table
from getam.config.tables import SCORE_FILES


def miou(path: Path) -> str:
    """Points of mIoU in a file of `getam score`, empty where there is none."""
    if not path.is_file():
        return ""
    with path.open() as file:
        return f"{100 * float(dict(csv.reader(file))['mIoU']):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of runs")
    parser.add_argument("--split", default="val")
    parser.add_argument("--name", required=True, help="of the file")
    options = parser.parse_args()
    runs = sorted(path.parent for path in options.folder.glob("*/provenance.json"))
    rows = [
        {"run": run.name, "split": options.split}
        | {what: miou(run / options.split / f"{score}.csv") for what, score in SCORE_FILES.items()}
        for run in runs
    ]
    rows = [row for row in rows if any(row[what] for what in SCORE_FILES)]
    if not rows:
        raise SystemExit(f"no scores of split {options.split} below {options.folder}")
    report_table(f"scores-{options.name}", rows)


if __name__ == "__main__":
    main()
