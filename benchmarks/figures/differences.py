"""Draw a study's differences with their intervals, for all images, those of one class and those of several.

    python -m benchmarks.figures.differences benchmarks/results/label_settings-voc6-amd-epyc.csv \
        docs/pictures/voc6-labels.svg --name "settings of" --title "Pseudo labels: difference from those as trained"

Reads the columns `difference, all`, `difference, one class` and `difference, several classes` of
benchmarks/studies/paired.py, and leaves out rows without a difference.
"""

import argparse
import csv
import re
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

# Dark enough on white, and apart for readers who do not see red and green.
GROUPS = {"all": "#1b4965", "one class": "#5fa8d3", "several classes": "#e07a1f"}
_NUMBER = r"([+-][\d.]+)"
_DIFFERENCE = re.compile(rf"{_NUMBER} \[{_NUMBER}, {_NUMBER}\]")


def difference(text: str) -> tuple[float, float, float] | None:
    """Points, and both ends of the interval; None where there is no difference."""
    found = _DIFFERENCE.fullmatch(text)
    return tuple(map(float, found.groups())) if found else None


def draw(path: Path, rows: list[tuple[str, dict[str, str]]], title: str) -> None:
    """Rows from top to bottom: (name, columns)."""
    plt.rcParams["svg.hashsalt"] = "getam"  # else the same drawing is another file each time
    figure, axis = plt.subplots(figsize=(8, 0.36 * len(rows) + 1.2), layout="constrained")
    for k, (group, colour) in enumerate(GROUPS.items()):
        found = [(place, difference(row[f"difference, {group}"])) for place, (_, row) in enumerate(rows)]
        found = [(place + 0.24 * (k - 1), value) for place, value in found if value]
        points = [value[0] for _, value in found]
        ends = [[v - low for _, (v, low, _) in found], [high - v for _, (v, _, high) in found]]
        axis.errorbar(
            points, [place for place, _ in found], xerr=ends, fmt="o", ms=4, lw=1.5, color=colour, label=group
        )
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.grid(axis="x", alpha=0.3)
    axis.set_xlabel("points of mIoU, and 95% interval over the images")
    axis.set_title(title, fontsize="medium", loc="left")
    axis.legend(title="images of", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="CSV of a study")
    parser.add_argument("picture", type=Path, help="SVG to write")
    parser.add_argument("--name", required=True, metavar="COLUMN", help="that names the rows")
    parser.add_argument("--title", required=True)
    options = parser.parse_args()
    with options.table.open(newline="") as file:
        rows = [(row[options.name], row) for row in csv.DictReader(file)]
    draw(options.picture, [(name, row) for name, row in rows if difference(row["difference, all"])], options.title)


if __name__ == "__main__":
    main()
