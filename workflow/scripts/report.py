"""Writes the report: one page with the tables, and the scores, pictures, training, cost and origin of their runs."""

from pathlib import Path
from types import SimpleNamespace

import jinja2
from docutils.core import publish_parts

from getam.evaluation.report import JOBS, ReportedRun, ReportedTable, report
from getam.utils.files import write_text

results, figures = Path(snakemake.params.results), Path(snakemake.params.results, "figures")


def caption(name: str, **wildcards: str) -> str:
    """A caption of workflow/report as HTML; the report of Snakemake has the same."""
    text = Path(snakemake.params.captions[name]).read_text()
    values = SimpleNamespace(wildcards=SimpleNamespace(**wildcards), config=snakemake.params.config)
    return publish_parts(jinja2.Template(text).render(snakemake=values), writer_name="html5")["body"]


tables = [
    ReportedTable(
        snakemake.params.config["tables"][name]["title"],
        results / f"{name}.csv",
        figures / "tables" / f"{name}.svg",
        caption("table", table=name),
    )
    for name in snakemake.params.config["report"]
]
runs = []
for run, split in snakemake.params.runs:
    files = {
        "classes": figures / run / f"classes_{split}.svg",
        "confusion": figures / run / f"confusion_{split}.svg",
        "panels": figures / run / f"panels_{split}.png",
        "history": figures / run / "history.svg",
    }
    asked = set(map(str, snakemake.input))
    shown = {
        name: (path, caption(name, run=run, split=split)) for name, path in files.items() if path.as_posix() in asked
    }
    jobs = [path for rule in JOBS for path in (results / "benchmarks" / rule).glob(f"{run}.*tsv")]
    runs.append(ReportedRun(run, split, results / "experiments" / run, shown, jobs))
write_text(Path(snakemake.output[0]), report("GETAM: results", caption("workflow"), tables, runs))
