"""Joins all tables into one; each line names its table."""

from pathlib import Path

import pandas as pd

tables = [
    pd.read_csv(path).assign(table=name) for name, path in zip(snakemake.params.tables, snakemake.input, strict=True)
]
whole = pd.concat(tables, ignore_index=True)
whole.insert(0, "table", whole.pop("table"))
whole.to_csv(snakemake.output[0], index=False)
counts = whole["state"].str.split(":").str[0].value_counts()
Path(snakemake.log[0]).write_text("\n".join(f"{count} {state}" for state, count in counts.items()) + "\n")
