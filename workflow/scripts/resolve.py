"""Writes experiment.yaml: every setting of a run, checked."""

import sys
from pathlib import Path

from getam import load_experiment
from getam.experiment import write_experiment

with Path(snakemake.log[0]).open("w") as log:
    try:
        write_experiment(Path(snakemake.output[0]).parent, load_experiment(snakemake.params.settings))
    except ValueError as error:
        print(error, file=log)
        sys.exit(f"experiments.{snakemake.wildcards.run}: {error}")
