"""Tables and their rows: the runs that each row is read from, and a check that all names exist.

`config` is the workflow's configuration as a dictionary: `experiments` and `recipes` (config/experiments.yaml,
config/recipes.yaml), `tables` (config/paper.yaml) and `seeds` (config/config.yaml).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from getam.config.entries import Config, check_teacher, entry_of, runs_of, seeds_of, settings_of
from getam.config.experiment import KNOWN_CLASSES
from getam.config.experiment_file import load_experiment
from getam.data.parts import PARTS, is_held_out, splits_of
from getam.utils.checks import check_known

# Outputs of a run that can be scored -> name of the score file. Maps are scored directly, the others as masks.
MASKS = {
    "masks": "iou",
    "masks_without_crf": "iou_without_crf",
    "pseudo_labels": "pseudo_label_iou",
    KNOWN_CLASSES: "iou_known_classes",
}
SCORE_FILES = {**MASKS, "maps": "map_iou"}


@dataclass(frozen=True)
class Row:
    """One number of a table.

    Attributes:
        row: its name in the table.
        experiment: entry of `experiments` that gives the number, or None.
        minus: entry whose number is subtracted; the paper gives some numbers only as differences.
        split, what: the split and the output of the run that are scored (`what` is a key of `SCORE_FILES`).
        paper: published value in points of mIoU, or None.
        tolerance: largest difference from the published value, in points, that counts as reproduced.
        state: why no run can give the number, or None.
        submission: entry whose archive for the evaluation server takes the place of the number.
        source, note: where the published value was found, and remarks.
    """

    row: str
    experiment: str | None = None
    minus: str | None = None
    split: str = "val"
    what: str = "masks"
    paper: float | None = None
    tolerance: float | None = None
    state: str | None = None
    submission: str | None = None
    source: str = ""
    note: str = ""


def runs_of_row(row: Row, config: Config) -> tuple[list[str], list[str]]:
    """Runs that a row is read from, and runs that are subtracted from them, seed by seed.

    A difference is taken over the seeds that both entries have, so that shared randomness cancels.
    """
    if not row.experiment:
        return [], []
    if not row.minus:
        return runs_of(row.experiment, config), []
    trained = [name for name in (row.experiment, row.minus) if "checkpoint" not in entry_of(name, config)]
    seeds = [seeds_of(entry_of(name, config), config) for name in trained]
    shared = [seed for seed in seeds[0] if seed in seeds[-1]] if seeds else [0]
    first, second = (runs_of(name, config, shared) for name in (row.experiment, row.minus))
    pairs = max(len(first), len(second)) if shared else 0
    # A released checkpoint is a single run; it is repeated for every seed of the other entry.
    return (first * pairs)[:pairs], (second * pairs)[:pairs]


def rows_of(table: str, config: Config) -> list[Row]:
    """The rows of a table, merged over its `defaults`."""
    described = config["tables"][table]
    return [Row(**{**described.get("defaults", {}), **row}) for row in described["rows"]]


def experiments_of(rows: Iterable[Row]) -> list[str]:
    """Every entry that the rows are read from, without repetition."""
    found = [name for row in rows for name in (row.experiment, row.minus) if name]
    return list(dict.fromkeys(found))


def score_file(row: Row, run: str) -> str:
    """Path of the score file of a run for a row, below the folder of the experiments."""
    return f"{run}/{row.split}/{SCORE_FILES[row.what]}.csv"


def check_studies(config: Config, archives: Iterable[str]) -> None:
    """Checks that every name in the configuration exists and every experiment is valid.

    Args:
        archives: names of the registry.

    Raises:
        ValueError: a name does not exist or a value is wrong; the message says where it stands.
    """
    for name in config["experiments"]:
        settings = settings_of(name, config)
        try:
            load_experiment(settings)
        except ValueError as error:
            raise ValueError(f"experiments.{name}: {str(error).removeprefix('experiment: ')}") from None
        check_teacher(name, config)
        data = settings["data"]
        folder, _, last = data["dataset"].rpartition("/")
        if folder == "resources/datasets":
            check_known(f"experiments.{name}.data.dataset", last, config["datasets"])
        if "split" in data:
            _check_split(f"experiments.{name}.data.split", data["split"], name, config)
        if (checkpoint := entry_of(name, config).get("checkpoint")) is not None:
            check_known(f"experiments.{name}.checkpoint", checkpoint, archives)
    for kind in ("datasets", "saliency"):
        for name, described in config[kind].items():
            _check_archives(f"{kind}.{name}", described, config)
            for part, more in (described.get("parts") or {}).items():
                check_known(f"{kind}.{name}.parts", part, PARTS[described["kind"]])
                _check_archives(f"{kind}.{name}.parts.{part}", more or {}, config)
    for name, described in config["saliency"].items():
        check_known(f"saliency.{name}.dataset", described["dataset"], config["datasets"])
    for archive in config["unpack"]:
        check_known("unpack", archive, archives)
    for table in config["report"]:
        check_known("report", table, config["tables"])
    for table in config["tables"]:
        for row in rows_of(table, config):
            for name in (row.experiment, row.minus, row.submission):
                if name is not None:
                    check_known(f"tables.{table}, row {row.row!r}", name, config["experiments"])
                    _check_split(f"tables.{table}, row {row.row!r}: split", row.split, name, config)
            if not (row.experiment or row.state or row.submission):
                raise ValueError(
                    f"tables.{table}: row {row.row!r} needs an experiment, or a state that says why there is none"
                )
            if row.experiment and row.paper is not None and row.tolerance is None:
                raise ValueError(f"tables.{table}: row {row.row!r} has a published number, and needs a tolerance")
            if row.experiment and not runs_of_row(row, config)[0]:
                raise ValueError(f"tables.{table}: the entries of row {row.row!r} have no seed in common")


def _check_archives(where: str, described: Config, config: Config) -> None:
    for archive in described.get("archives") or []:
        check_known(f"{where}.archives", archive, config["unpack"])


def _check_split(where: str, split: str, experiment: str, config: Config) -> None:
    folder, _, dataset = settings_of(experiment, config)["data"]["dataset"].rpartition("/")
    if folder == "resources/datasets":
        described = config["datasets"][dataset]
        check_known(where, split, splits_of(described["kind"]))
        if is_held_out(split) and not described.get("options", {}).get("hold-out"):
            raise ValueError(f"{where}: {split!r} needs hold-out, a number of images, in datasets.{dataset}.options")
