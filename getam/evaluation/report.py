"""The report: tables beside the paper's at the top, then each run's scores, pictures, training, origin and cost."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from getam.evaluation.scores import read_summary
from getam.utils.files import read_json
from getam.utils.html import html_details, html_figure, html_heading, html_page, html_table

_COLUMNS = ("row", "split", "paper", "ours", "difference", "tolerance", "state", "seeds", "saliency", "note")
# Figures of a run, in the order of the page, with their headings.
_FIGURES = {
    "classes": "IoU of each class",
    "confusion": "Which labels are confused",
    "panels": "From photograph to prediction",
    "history": "Training",
}
# Rules whose jobs belong to one run, in the order of the data flow.
JOBS = ("train", "predict", "label", "refine", "maps")
_SCORES = {"iou": "masks", "iou_without_crf": "masks without CRF", "pseudo_label_iou": "pseudo labels, classes known"}


@dataclass(frozen=True)
class ReportedTable:
    """A table of the report.

    Attributes:
        path: its CSV file, with the fields of `getam.evaluation.tables.Line`.
        drawing: its picture.
        caption: of the table and the picture, HTML.
    """

    title: str
    path: Path
    drawing: Path
    caption: str


@dataclass(frozen=True)
class ReportedRun:
    """A run of the report, scored on one split.

    Attributes:
        folder: of the run.
        figures: kind (a key of `_FIGURES`) -> its file and its caption, HTML.
        benchmarks: files <rule>/<job>.tsv that Snakemake has written about the jobs of this run.
    """

    name: str
    split: str
    folder: Path
    figures: dict[str, tuple[Path, str]]
    benchmarks: Sequence[Path] = field(default=())


def report(title: str, introduction: str, tables: Sequence[ReportedTable], runs: Sequence[ReportedRun]) -> str:
    """The page as HTML. introduction: HTML.

    Raises:
        FileNotFoundError: a file of a run is missing.
    """
    navigation, parts = [], [introduction]
    for number, table in enumerate(tables):
        anchor = f"table-{number}"
        navigation.append((anchor, table.title.split(":")[0], False))
        parts += [html_heading(2, table.title, anchor), *_table(table)]
    for run in runs:
        anchor = f"{run.name}-{run.split}"
        navigation.append((anchor, run.name, False))
        parts.append(html_heading(2, f"{run.name}, on {run.split}", anchor))
        for heading, content in _run(run):
            navigation.append((f"{anchor}-{len(navigation)}", heading, True))
            parts += [html_heading(3, heading, navigation[-1][0]), content]
    return html_page(title, *parts, navigation=navigation)


def _table(table: ReportedTable) -> list[str]:
    with table.path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    states = [line["state"].split(":")[0] for line in lines]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    rows = [[_cell(line, column) for column in _COLUMNS] for line in lines]
    kept = [i for i in range(len(_COLUMNS)) if any(row[i] is not None for row in rows)]
    shown = html_table([_COLUMNS[i] for i in kept], [[row[i] for i in kept] for row in rows], states)
    return [f"<p>{len(lines)} rows: {escape(counted)}.</p>", shown, html_figure(table.drawing, table.caption)]


def _cell(line: dict[str, str], column: str) -> str | float | int | None:
    if column == "ours":
        spread = f" ± {float(line['spread']):.1f}" if line["spread"] else ""
        return f"{float(line['reproduced']):.1f}{spread}" if line["reproduced"] else None
    if column == "note":
        return "; ".join(filter(None, (line["source"] and f"source: {line['source']}", line["note"]))) or None
    value = line[column]
    if not value:
        return None
    return (
        float(value) if column in ("paper", "difference", "tolerance") else int(value) if column == "seeds" else value
    )


def _run(run: ReportedRun) -> list[tuple[str, str]]:
    """Headings and contents."""
    contents = [("Scores", _scores(run))]
    contents += [
        (heading, html_figure(*run.figures[kind])) for kind, heading in _FIGURES.items() if kind in run.figures
    ]
    contents.append(("What it cost", _cost(run)))
    contents.append(("How it was made", _provenance(run)))
    return contents


def _scores(run: ReportedRun) -> str:
    rows = []
    for name, what in _SCORES.items():
        path = run.folder / run.split / f"{name}.csv"
        if path.is_file():
            summary = read_summary(path)
            rows.append([what, *(f"{100 * value:.1f}" for value in summary.values())])
            columns = ["", *summary]
    return (
        html_table(columns, rows)
        + "<p class='note'>Percent. mIoU is the mean over the classes, background included.</p>"
    )


def _cost(run: ReportedRun) -> str:
    """Time and memory of the last job of each step, as Snakemake has measured them."""
    rows, total = [], 0.0
    made = read_json(run.folder / "provenance.json")
    if first := made.get("first_phase"):
        total += first["seconds_of_the_last_session"]
        rows.append(["train_first_phase", "shared with runs of the same first phase", _clock(total), None])
    for path in sorted(run.benchmarks, key=lambda path: (JOBS.index(path.parent.name), path.name)):
        with path.open(encoding="utf-8", newline="") as file:
            measured = next(csv.DictReader(file, delimiter="\t"))
        total += float(measured["s"])
        memory = measured["max_rss"]
        rows.append(
            [
                path.parent.name,
                path.stem,
                _clock(float(measured["s"])),
                None if memory in ("-", "NA") else round(float(memory)),
            ]
        )
    rows.append(["all", "", _clock(total), None])
    device = made.get("device", "an unknown device")
    note = f"The last job of each step; a job that was resumed counts from there. Trained on {escape(device)}."
    return html_table(["rule", "job", "time", "peak MiB"], rows) + f"<p class='note'>{note}</p>"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _provenance(run: ReportedRun) -> str:
    provenance = read_json(run.folder / "provenance.json")
    nested = {key: value for key, value in provenance.items() if isinstance(value, dict) and key != "first_phase"}
    plain = [[key.replace("_", " "), str(value)] for key, value in provenance.items() if not isinstance(value, dict)]
    parts = [html_table(["", ""], plain)]
    parts += [
        html_details(key.replace("_", " "), html_table(["", ""], [[k, str(v)] for k, v in values.items()]))
        for key, values in nested.items()
    ]
    settings = (run.folder / "experiment.yaml").read_text(encoding="utf-8")
    parts.append(html_details("every setting", f"<pre>{escape(settings)}</pre>"))
    return "".join(parts)
