"""Writes the provenance page of a run: its settings, inputs, and the time and memory of its steps."""

import json
from html import escape
from pathlib import Path

import pandas as pd

from getam.utils.html import html_page, html_table

provenance = json.loads(Path(snakemake.input.provenance).read_text())
nested = {key: provenance.pop(key) for key in ("first_phase", "made_from", "versions") if key in provenance}
parts = ["<h2>Provenance</h2>", html_table(["", ""], [[key, str(value)] for key, value in provenance.items()])]
if "first_phase" in nested:
    # The rest of it is that of the run: else it would not have been taken.
    nested["first_phase"] = {key: value for key, value in nested["first_phase"].items() if key not in nested}
for key, values in nested.items():
    parts += [f"<h2>{key.replace('_', ' ')}</h2>", html_table(["", ""], [[k, str(v)] for k, v in values.items()])]
costs = []
for path in sorted(Path(snakemake.params.benchmarks).glob(f"*/{snakemake.wildcards.run}.*tsv")):
    measured = pd.read_csv(path, sep="\t", na_values="-").iloc[0]
    costs.append([path.parent.name, path.stem, measured["h:m:s"], float(measured["max_rss"])])
parts += ["<h2>Cost of the last job of each step</h2>", html_table(["rule", "job", "time", "peak MiB"], costs)]
parts += ["<h2>Settings</h2>", f"<pre>{escape(Path(snakemake.params.experiment).read_text())}</pre>"]
Path(snakemake.output[0]).write_text(html_page(snakemake.wildcards.run, *parts))
