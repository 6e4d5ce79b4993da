"""Pseudo labels of trained networks under settings that they were not trained with: one setting at a time.

    python -m benchmarks.studies.label_settings CONFIG RUN... --split val --entries product matmul from_0 no_saliency

The networks of RUN... make pseudo labels with the maps, recipe and saliency of each entry of CONFIG (such as
config/voc_subset.yaml) and with their own settings; the labels are scored against the truth. The networks are the same
for all entries, so differences are those of the labels alone, not of networks trained with them.

Writes benchmarks/results/label_settings-<first run>.csv.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.measure import RESULTS, print_table, write_table
from getam.config.entries import settings_of
from getam.config.experiment import Experiment
from getam.config.experiment_file import load_experiment, parse_yaml
from getam.evaluation.labelling import label_files
from getam.evaluation.run import Run
from getam.evaluation.scores import score_masks
from getam.utils.progress import progress

OWN = "as trained"


def labelled_as(run: Run, entry: Experiment | None) -> Experiment:
    """The run's experiment with those settings of the entry that pseudo labels depend on."""
    if entry is None:
        return run.experiment
    data = run.experiment.data.model_copy(update={"saliency": entry.data.saliency})
    return run.experiment.model_copy(update={"maps": entry.maps, "recipe": entry.recipe, "data": data})


def miou(run: Run, split_name: str, experiment: Experiment) -> float:
    """Points of mIoU of the pseudo labels."""
    split, network = run.dataset.split(split_name), run.load_network(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        for _ in label_files(network, split, split.ids, Path(folder), experiment, batch=8):
            pass
        return 100 * score_masks(split, run.dataset.classes, Path(folder)).miou()


def entries(config: Path, names: Iterable[str]) -> dict[str, Experiment | None]:
    """Experiments of a configuration, by name, after the runs' own."""
    described = {"recipes": {}, **parse_yaml(config.read_text())}
    return {OWN: None} | {name: load_experiment(settings_of(name, described)) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder that `getam train` has written")
    parser.add_argument("--split", default="val")
    parser.add_argument("--entries", nargs="+", required=True, metavar="NAME")
    options = parser.parse_args()
    runs, studied = [Run(folder) for folder in options.runs], entries(options.config, options.entries)
    found = {name: [] for name in studied}
    for run, name in progress([(run, name) for run in runs for name in studied], unit="score"):
        found[name].append(miou(run, options.split, labelled_as(run, studied[name])))
    rows = []
    for name, values in found.items():
        differences = [value - own for value, own in zip(values, found[OWN], strict=True)]
        row = {"settings of": name, "mIoU": f"{statistics.mean(values):.2f}"}
        row["difference"] = "" if name == OWN else f"{statistics.mean(differences):+.2f}"
        row["of each run"] = " ".join(f"{value:.2f}" for value in values)
        rows.append({**row, "runs": " ".join(run.folder.name for run in runs), "split": options.split})
    print_table(rows)
    table = RESULTS / f"label_settings-{runs[0].folder.name}.csv"
    write_table(table, rows)
    print(f"written to {table}")


if __name__ == "__main__":
    main()
