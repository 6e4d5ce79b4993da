"""Pseudo labels of trained networks under settings that they were not trained with: one setting at a time.

    python -m benchmarks.studies.label_settings CONFIG RUN... --split val \
        --entries product matmul from_0 no_saliency --name voc6

The networks of RUN... make pseudo labels with the maps, recipe and saliency of each entry of CONFIG (such as
config/voc6.yaml) and with their own settings; the labels are scored against the truth. The networks are the same for
all entries, so differences are those of the labels alone, not of networks trained with them. Images of one class and
of several are scored apart, too; differences have an interval over the images (benchmarks/studies/paired.py).

Writes benchmarks/results/label_settings-<name>.csv.
"""

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import report_table
from benchmarks.studies.paired import columns, counts_of, groups_of, miou
from getam.config.entries import settings_of
from getam.config.experiment import Experiment
from getam.config.experiment_file import load_experiment, parse_yaml
from getam.data.images import read_mask
from getam.evaluation.labelling import label_files
from getam.evaluation.run import Run
from getam.utils.progress import progress

OWN = "as trained"


def labelled_as(run: Run, entry: Experiment | None) -> Experiment:
    """The run's experiment with those settings of the entry that pseudo labels depend on."""
    if entry is None:
        return run.experiment
    data = run.experiment.data.model_copy(update={"saliency": entry.data.saliency})
    return run.experiment.model_copy(update={"maps": entry.maps, "recipe": entry.recipe, "data": data})


def counts(run: Run, split_name: str, experiment: Experiment) -> np.ndarray:
    """Pixels of each image by true label and pseudo label, as `counts_of` returns them."""
    split, network = run.dataset.split(split_name), run.load_network(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        for _ in label_files(network, split, split.ids, Path(folder), experiment, batch=8):
            pass
        return counts_of(split, len(run.dataset.classes), lambda name: read_mask(Path(folder, f"{name}.png")))


def entries(config: Path, names: Iterable[str]) -> dict[str, Experiment | None]:
    """Experiments of a configuration, by name, after the runs' own."""
    described = {"recipes": {}, **parse_yaml(config.read_text())}
    return {OWN: None} | {name: load_experiment(settings_of(name, described)) for name in names}


def unknown(of_images: np.ndarray) -> float:
    """The fraction of the pixels without a label."""
    return of_images[..., -1].sum() / of_images.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder that `getam train` has written")
    parser.add_argument("--split", default="val")
    parser.add_argument("--entries", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--name", required=True, help="of the file")
    options = parser.parse_args()
    runs, studied = [Run(folder) for folder in options.runs], entries(options.config, options.entries)
    found = {name: [] for name in studied}
    for run, name in progress([(run, name) for run in runs for name in studied], unit="score"):
        found[name].append(counts(run, options.split, labelled_as(run, studied[name])))
    groups = groups_of(runs[0].dataset.split(options.split))
    rows = []
    for name, of_runs in found.items():
        row = {"settings of": name, **columns(of_runs, None if name == OWN else found[OWN], groups)}
        row["of each run"] = " ".join(f"{miou(of_run.sum(0)):.2f}" for of_run in of_runs)
        row["unknown pixels, %"] = f"{100 * np.mean([unknown(of_run) for of_run in of_runs]):.1f}"
        rows.append({**row, "runs": " ".join(run.folder.name for run in runs), "split": options.split})
    report_table(f"label_settings-{options.name}", rows)


if __name__ == "__main__":
    main()
