"""Reads the rows of a table from the scores of their runs and sets them beside the paper's numbers."""

from pathlib import Path

import pandas as pd

from getam.utils.html import html_page, html_table

COLUMNS = ["row", "split", "paper", "reproduced", "spread", "difference", "tolerance", "state", "experiment", "seeds"]


def miou(folder: Path, runs: list[str], row: dict) -> pd.Series:
    """Points of mIoU of each run."""
    files = [folder / run / row["split"] / f"{row['score']}.csv" for run in runs]
    return pd.Series([100 * pd.read_csv(file, index_col=0).loc["mIoU"].item() for file in files])


def read(folder: Path, row: dict) -> dict:
    """One line of the table."""
    line = {
        **row,
        "seeds": len(row["runs"]) or None,
        "tolerance": row["tolerance"] if row["experiment"] and row["paper"] is not None else None,
    }
    if row["submission"]:
        archive = f"voc_test/{row['submission']}.tar.gz"
        line |= {
            "experiment": row["submission"],
            "state": f"not reproducible: only the evaluation server can score {archive}",
        }
    if not row["runs"]:
        return line
    values = miou(folder, row["runs"], row)
    if row["minus"]:
        values = values - miou(folder, row["minus_runs"], row)
        line["experiment"] = f"{row['experiment']} - {row['minus']}"
    line |= {"reproduced": values.mean(), "spread": values.std() if len(values) > 1 else None}
    if row["paper"] is None:
        return line | {"state": "measured, nothing published"}
    line["difference"] = line["reproduced"] - row["paper"]
    within = abs(line["difference"]) <= row["tolerance"]
    return line | {"state": "reproduced" if within else "differs"}


lines = [read(Path(snakemake.params.experiments), row) for row in snakemake.params.rows]
table = pd.DataFrame(lines).reindex(columns=[*COLUMNS, "source", "note"])
for column in ("paper", "reproduced", "spread", "difference", "tolerance"):
    table[column] = pd.to_numeric(table[column]).round(2)
table["seeds"] = table["seeds"].astype("Int64")
table.to_csv(snakemake.output.csv, index=False)
shown = table[
    ["row", "split", "paper", "reproduced", "spread", "difference", "tolerance", "state", "experiment", "note"]
]
rows = [[None if pd.isna(value) else value for value in row] for row in shown.itertuples(index=False)]
page = html_page(snakemake.params.title, html_table(list(shown), rows, list(table["state"].str.split(" ").str[0])))
for path in snakemake.output[1:]:
    Path(path).write_text(page)
brief = ["row", "paper", "reproduced", "spread", "difference", "state"]
text = table[brief].to_string(index=False, na_rep="-")
Path(snakemake.log[0]).write_text(text + "\n")
print(text)
