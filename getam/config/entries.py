"""Entries of config/experiments.yaml: the settings of each run, and the runs of each entry.

`config` is the workflow's configuration as a dictionary: `experiments` and `recipes` (config/experiments.yaml,
config/recipes.yaml), `seeds`, `saliency` and `saliency_source` (config/config.yaml).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from getam.config.experiment_file import load_experiment
from getam.config.first_phase import first_phase_name
from getam.config.saliency import maps_folder
from getam.utils.checks import check_known, suggestion

Config = Mapping[str, Any]
_SEED = re.compile(r"(?P<experiment>.+)-seed(?P<seed>\d+)")
# Keys of an entry that are not settings of the experiment.
_OF_ENTRY = ("extends", "checkpoint", "seeds")


def entry_of(name: str, config: Config) -> dict[str, Any]:
    """An entry of `experiments`, merged over the entries that it extends; nearer ones override farther ones.

    Raises:
        ValueError: there is no such entry, an extended one does not exist, or entries extend one another.
    """
    return _extended(name, config, ())


def _extended(name: str, config: Config, seen: tuple[str, ...]) -> dict[str, Any]:
    known = {**config["recipes"], **config["experiments"]} if seen else config["experiments"]
    if name in seen:
        raise ValueError(f"experiments: {' extends '.join((*seen, name))}")
    if name not in known:
        where = f"experiments.{seen[-1]}.extends" if seen else "experiments"
        raise ValueError(f"{where}: there is no {name!r}; {suggestion(name, known)}")
    own = known[name] or {}
    base = own.get("extends")
    inherited = {} if base is None else _extended(base, config, (*seen, name))
    return merged(inherited, {key: value for key, value in own.items() if key != "extends"})


def merged(base: Config, over: Config) -> dict[str, Any]:
    """`base`, overridden by the values of `over` section by section."""
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
        ValueError: as `entry_of`; or the entry lacks a setting that has no default, or names a teacher or an entry of
            `saliency` that does not exist.
    """
    name, seed = _entry_and_seed(run, config)
    entry = entry_of(name, config)
    settings = {"name": run, **{key: value for key, value in entry.items() if key not in _OF_ENTRY}}
    if seed is not None:
        settings["seed"] = seed
    for section, key in (("data", "dataset"), ("data", "saliency"), ("network", "backbone")):
        if key not in (settings.get(section) or {}):
            raise ValueError(f"experiments.{name}: {section}.{key} is missing")
    folder = maps_folder(settings["data"]["saliency"], config, f"experiments.{name}.data.saliency")
    settings = {**settings, "data": {**settings["data"], "saliency": folder}}
    if teacher := teacher_of(run, config):
        place = f"{config.get('pathvars', {}).get('results', 'results')}/experiments/{teacher}"
        settings["taught_by"] = {**settings["taught_by"], "run": place}
    return settings


def teacher_of(run: str, config: Config) -> str | None:
    """The run whose labels a run is taught, or None.

    A pupil with another seed than its entry's has a teacher with that seed, so that the spread of the seeds is that of
    both trainings; unless `taught_by.run` itself names a seed, or the authors' weights.
    """
    name, seed = _entry_and_seed(run, config)
    taught_by = entry_of(name, config).get("taught_by")
    if not isinstance(taught_by, Mapping) or not isinstance(taught_by.get("run"), str):
        return None
    teacher = taught_by["run"]
    of_teacher, named_seed = _entry_and_seed(teacher, config)
    check_known(f"experiments.{name}.taught_by.run", of_teacher, config["experiments"])
    return teacher if seed is None or named_seed is not None else runs_of(of_teacher, config, [seed])[0]


def check_teacher(name: str, config: Config) -> None:
    """Checks that the teacher of an entry can teach it.

    Raises:
        ValueError: it does not exist, has another data set or no such labels, or is taught by this entry itself.
    """
    where, seen, run = f"experiments.{name}.taught_by.run", [name], name
    while (run := teacher_of(run, config)) is not None:
        if run in seen:
            raise ValueError(f"{where}: {' is taught by '.join((*seen, run))}")
        seen.append(run)
    if len(seen) > 1:
        own, teacher = settings_of(name, config), settings_of(seen[1], config)
        if own["data"]["dataset"] != teacher["data"]["dataset"]:
            raise ValueError(f"{where}: {seen[1]} has another data set, {teacher['data']['dataset']}")
        labels = own["taught_by"].get("labels", "pseudo_labels")
        if labels == "pseudo_labels" and not load_experiment(teacher).has_maps:
            raise ValueError(f"{where}: {seen[1]} has no activation maps, and so no pseudo labels; take its masks")


def _entry_and_seed(run: str, config: Config) -> tuple[str, int | None]:
    """The entry of a run, and its seed if the name says it."""
    match = _SEED.fullmatch(run)
    return (match["experiment"], int(match["seed"])) if match and run not in config["experiments"] else (run, None)


def first_phase_of_run(run: str, config: Config) -> str | None:
    """Name of a run's first phase, `<digest of its settings>-seed<n>`, or None if it has no first phase."""
    experiment = load_experiment(settings_of(run, config))
    name = first_phase_name(experiment)
    return name and f"{name}-seed{experiment.seed}"


def settings_of_first_phase(phase: str, config: Config) -> dict[str, Any]:
    """Settings of a run with this first phase; of all such runs, the first in the configuration.

    Raises:
        ValueError: no entry of the configuration has this first phase.
    """
    match = _SEED.fullmatch(phase)
    for name in config["experiments"] if match else ():
        if "checkpoint" not in entry_of(name, config):
            settings = {**settings_of(name, config), "seed": int(match["seed"])}
            if first_phase_name(load_experiment(settings)) == match["experiment"]:
                return settings
    raise ValueError(f"no experiment of the configuration has the first phase {phase}")


def runs_of(experiment: str, config: Config, seeds: Iterable[int] | None = None) -> list[str]:
    """Names of an entry's runs, one for each of `seeds`; the run of the entry's own seed has the entry's name.

    Args:
        seeds: None: those of the entry, or else of the configuration.
    """
    entry = entry_of(experiment, config)
    if "checkpoint" in entry:
        return [experiment]
    own = entry.get("seed", 0)
    seeds = seeds_of(entry, config) if seeds is None else seeds
    return [experiment if seed == own else f"{experiment}-seed{seed}" for seed in seeds]


def seeds_of(entry: Config, config: Config) -> list[int]:
    """The seeds of an entry, or else of the configuration."""
    return entry.get("seeds", config["seeds"])
