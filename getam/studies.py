"""What the configuration asks for: the settings of each run, and the runs that each row of a table is read from.

`config` is the workflow's configuration as a dictionary: `experiments` and `recipes` (config/experiments.yaml,
config/recipes.yaml), `tables` (config/paper.yaml) and `seeds` (config/config.yaml). Nothing here computes anything.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from getam.experiment import load_experiment
from getam.first_phase import first_phase_name
from getam.names import SPLITS

Config = Mapping[str, Any]
# What of a run is scored -> name of the file of its scores. Maps are scored as they are, the others as masks.
MASKS = {"masks": "iou", "masks_without_crf": "iou_without_crf", "pseudo_labels": "pseudo_label_iou"}
WHAT = {**MASKS, "maps": "map_iou"}
_SEED = re.compile(r"(?P<experiment>.+)-seed(?P<seed>\d+)")
# Keys of an entry that are no settings of the experiment.
_OF_ENTRY = ("extends", "checkpoint", "seeds")


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        row: what the table calls it.
        experiment: entry of `experiments` that gives the number, or None.
        minus: entry whose number is subtracted: the paper gives some numbers as differences only.
        split, what: which masks of the run are scored (a key of `WHAT`).
        paper: published value in points of mIoU, or None.
        tolerance: how far away, in points, a reproduction may lie; where there is a published value to reproduce.
        state: of a number that no run can give: why.
        submission: entry whose archive for the evaluation server stands for the number.
        source, note: where the published value was found; what else there is to say.
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


def entry_of(name: str, config: Config) -> dict[str, Any]:
    """An entry of `experiments` with everything that it extends, nearest first.

    Raises:
        ValueError: there is no such entry, what it extends does not exist, or entries extend one another.
    """
    return _extended(name, config, ())


def _extended(name: str, config: Config, seen: tuple[str, ...]) -> dict[str, Any]:
    known = {**config["recipes"], **config["experiments"]} if seen else config["experiments"]
    if name in seen:
        raise ValueError(f"experiments: {' extends '.join((*seen, name))}")
    if name not in known:
        where = f"experiments.{seen[-1]}.extends" if seen else "experiments"
        raise ValueError(f"{where}: there is no {name!r}{_meant(name, known)}")
    own = known[name] or {}
    base = own.get("extends")
    inherited = {} if base is None else _extended(base, config, (*seen, name))
    return merged(inherited, {key: value for key, value in own.items() if key != "extends"})


def merged(base: Config, over: Config) -> dict[str, Any]:
    """`base` with the values of `over`, section by section."""
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        if key == "recipe" and isinstance(inner, str) and isinstance(value, Mapping) and "preset" not in value:
            inner = {"preset": inner}
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        result[key] = merged(inner, value) if both else value
    return result


def settings_of(run: str, config: Config) -> dict[str, Any]:
    """Settings of a run, as `getam.load_experiment` takes them; `NAME-seed3` is the entry NAME with seed 3.

    Raises:
        ValueError: as `entry_of`; or the entry does not say what every experiment has to.
    """
    match = _SEED.fullmatch(run)
    name = match["experiment"] if match and run not in config["experiments"] else run
    entry = entry_of(name, config)
    settings = {"name": run, **{key: value for key, value in entry.items() if key not in _OF_ENTRY}}
    if name != run:
        settings["seed"] = int(match["seed"])
    for section, key in (("data", "dataset"), ("data", "saliency"), ("network", "backbone")):
        if key not in (settings.get(section) or {}):
            raise ValueError(f"experiments.{name}: {section}.{key} is missing")
    return settings


def first_phase_of_run(run: str, config: Config) -> str | None:
    """Name of the first phase that a run begins with, `<what it is made from>-seed<n>`, or None where it has none."""
    experiment = load_experiment(settings_of(run, config))
    name = first_phase_name(experiment)
    return name and f"{name}-seed{experiment.seed}"


def settings_of_first_phase(phase: str, config: Config) -> dict[str, Any]:
    """Settings of some run that begins with a first phase.

    Raises:
        ValueError: no entry of the configuration begins with it.
    """
    match = _SEED.fullmatch(phase)
    for name in config["experiments"] if match else ():
        if "checkpoint" not in entry_of(name, config):
            settings = {**settings_of(name, config), "seed": int(match["seed"])}
            if first_phase_name(load_experiment(settings)) == match["experiment"]:
                return settings
    raise ValueError(f"no experiment of the configuration has the first phase {phase}")


def runs_of(experiment: str, config: Config, seeds: Iterable[int] | None = None) -> list[str]:
    """Names of an entry's runs, one for each of `seeds`; that of the entry's own seed has its plain name.

    Args:
        seeds: None: those that the entry names, or else the configuration.
    """
    entry = entry_of(experiment, config)
    if "checkpoint" in entry:
        return [experiment]
    own = entry.get("seed", 0)
    seeds = _seeds(entry, config) if seeds is None else seeds
    return [experiment if seed == own else f"{experiment}-seed{seed}" for seed in seeds]


def _seeds(entry: Config, config: Config) -> list[int]:
    return entry.get("seeds", config["seeds"])


def runs_of_row(row: Row, config: Config) -> tuple[list[str], list[str]]:
    """Runs that a row is read from, and those that are subtracted from them, seed by seed.

    A difference is taken over the seeds that both entries have, so that chance which they share falls out.
    """
    if not row.experiment:
        return [], []
    if not row.minus:
        return runs_of(row.experiment, config), []
    trained = [name for name in (row.experiment, row.minus) if "checkpoint" not in entry_of(name, config)]
    seeds = [_seeds(entry_of(name, config), config) for name in trained]
    shared = [seed for seed in seeds[0] if seed in seeds[-1]] if seeds else [0]
    first, second = (runs_of(name, config, shared) for name in (row.experiment, row.minus))
    pairs = max(len(first), len(second)) if shared else 0
    # A released checkpoint is one run, whatever it is compared with.
    return (first * pairs)[:pairs], (second * pairs)[:pairs]


def rows_of(table: str, config: Config) -> list[Row]:
    """The rows of a table; what its `defaults` say holds for all of them."""
    described = config["tables"][table]
    return [Row(**{**described.get("defaults", {}), **row}) for row in described["rows"]]


def experiments_of(rows: Iterable[Row]) -> list[str]:
    """Every entry that rows are read from, once."""
    found = [name for row in rows for name in (row.experiment, row.minus) if name]
    return list(dict.fromkeys(found))


def score_file(row: Row, run: str) -> str:
    """Where the score of a run lies that a row is read from, below the folder of the experiments."""
    return f"{run}/{row.split}/{WHAT[row.what]}.csv"


def check_studies(config: Config, archives: Iterable[str]) -> None:
    """Everything that is named somewhere exists.

    Args:
        archives: names of the registry.

    Raises:
        ValueError: what is missing, and where it is named.
    """
    for name in config["experiments"]:
        settings = settings_of(name, config)
        try:
            load_experiment(settings)
        except ValueError as error:
            raise ValueError(f"experiments.{name}: {str(error).removeprefix('experiment: ')}") from None
        data = settings["data"]
        for kind, key in (("datasets", "dataset"), ("saliency", "saliency")):
            folder, _, last = (data[key] or "").rpartition("/")
            if folder == f"resources/{kind}":
                _check(f"experiments.{name}.data.{key}", last, config[kind])
        if "split" in data:
            _check_split(f"experiments.{name}.data.split", data["split"], name, config)
        if (checkpoint := entry_of(name, config).get("checkpoint")) is not None:
            _check(f"experiments.{name}.checkpoint", checkpoint, archives)
    for kind in ("datasets", "saliency"):
        for name, described in config[kind].items():
            for archive in described.get("archives") or []:
                _check(f"{kind}.{name}.archives", archive, config["unpack"])
    for name, described in config["saliency"].items():
        _check(f"saliency.{name}.dataset", described["dataset"], config["datasets"])
    for archive in config["unpack"]:
        _check("unpack", archive, archives)
    for table in config["report"]:
        _check("report", table, config["tables"])
    for table in config["tables"]:
        for row in rows_of(table, config):
            for name in (row.experiment, row.minus, row.submission):
                if name is not None:
                    _check(f"tables.{table}, row {row.row!r}", name, config["experiments"])
                    _check_split(f"tables.{table}, row {row.row!r}: split", row.split, name, config)
            if not (row.experiment or row.state or row.submission):
                raise ValueError(f"tables.{table}: row {row.row!r} needs an experiment, or a state that says why not")
            if row.experiment and row.paper is not None and row.tolerance is None:
                raise ValueError(f"tables.{table}: row {row.row!r} has a published number, and needs a tolerance")
            if row.experiment and not runs_of_row(row, config)[0]:
                raise ValueError(f"tables.{table}: the entries of row {row.row!r} have no seed in common")


def _check_split(where: str, split: str, experiment: str, config: Config) -> None:
    folder, _, dataset = settings_of(experiment, config)["data"]["dataset"].rpartition("/")
    if folder == "resources/datasets":
        _check(where, split, SPLITS[config["datasets"][dataset]["kind"]])


def _check(where: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ValueError(f"{where}: there is no {name!r}{_meant(name, known)}")


def _meant(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
