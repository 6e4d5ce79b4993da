"""Calls Snakemake for its report of the existing tables and pictures, with the configuration of this run."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

output = Path(snakemake.output[0])
with tempfile.TemporaryDirectory() as folder, Path(snakemake.log[0]).open("w") as log:
    whole = Path(folder) / "config.json"
    whole.write_text(json.dumps(snakemake.params.config))
    page = Path(folder) / "report.html"
    command = [sys.executable, "-m", "snakemake", "--snakefile", snakemake.params.snakefile, "--nolock"]
    command += ["--configfile", str(whole), "--report", str(page), "--", *snakemake.input]
    if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode:
        sys.exit(f"the report could not be made: see {snakemake.log[0]}")
    unfinished = output.with_suffix(".unfinished")
    unfinished.write_bytes(page.read_bytes())
    unfinished.replace(output)
