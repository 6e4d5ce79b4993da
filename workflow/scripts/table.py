"""Writes a table: its rows, read from the scores of their runs, beside the paper's numbers."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from getam.config.tables import Row
from getam.evaluation.tables import table_line
from getam.utils.html import html_page, html_table

experiments = Path(snakemake.params.experiments)
lines = [
    asdict(table_line(experiments, Row(**row["row"]), row["runs"], row["minus_runs"])) for row in snakemake.params.rows
]
table = pd.DataFrame(lines)
for column in ("paper", "reproduced", "spread", "difference", "tolerance"):
    table[column] = pd.to_numeric(table[column]).round(2)
table["seeds"] = table["seeds"].astype("Int64")
table.to_csv(snakemake.output.csv, index=False)
shown = table.drop(columns=["seeds", "source"])
rows = [[None if pd.isna(value) else value for value in row] for row in shown.itertuples(index=False)]
page = html_page(snakemake.params.title, html_table(list(shown), rows, list(table["state"].str.split(" ").str[0])))
for path in snakemake.output[1:]:
    Path(path).write_text(page)
brief = ["row", "paper", "reproduced", "spread", "difference", "state"]
text = table[brief].to_string(index=False, na_rep="-")
Path(snakemake.log[0]).write_text(text + "\n")
print(text)
