"""Reads and writes experiment files; every error names the key."""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from getam.config.experiment import EXPERIMENT, Experiment, Teacher, TimmBackbone
from getam.utils.checks import suggestion
from getam.utils.files import write_text


def load_experiment(source: Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Loads an experiment from a file or a dictionary and checks every setting.

    Args:
        overrides: `section.key` -> value; they override the source's values.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not YAML, or keys or values are wrong; the message names all of them.

    >>> settings = {
    ...     "name": "small",
    ...     "data": {"dataset": "resources/datasets/voc", "saliency": None},
    ...     "network": {"backbone": "vitb"},
    ... }
    >>> load_experiment(settings, {"training.epochs": 5}).training.epochs
    5
    """
    if isinstance(source, Mapping):
        name, settings = "experiment", json.loads(json.dumps(source, default=str))
    else:
        name, settings = str(source), _read_yaml(Path(source))
    for key, value in (overrides or {}).items():
        _set(settings, key, value)
    try:
        # As JSON, pydantic's strict mode accepts lists for tuples and strings for paths, but not strings for numbers.
        return Experiment.model_validate_json(json.dumps(settings, default=str))
    except ValidationError as error:
        # A value with two possible types gives an error for each; one inside a section says more than one about it.
        explained = {_location(problem): _explained(problem) for problem in reversed(error.errors())}
        around = {where[:depth] for where in explained for depth in range(len(where))}
        explained = {where: message for where, message in explained.items() if where not in around}
        raise ValueError(f"{name}: " + "; ".join(reversed(explained.values()))) from error


def write_experiment(folder: Path, experiment: Experiment) -> None:
    """Writes the experiment to experiment.yaml in `folder`, as `load_experiment` reads it."""
    write_text(folder / EXPERIMENT, experiment.as_yaml())


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number and 2026-01-31 as a string, as YAML 1.2 does, and refuses a key that is there twice."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if names.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), "+-0123456789")


def parse_yaml(text: str) -> Any:
    """The value of a YAML text. Raises yaml.YAMLError if it is not YAML."""
    return yaml.load(text, _Loader)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no experiment file {path}")
    try:
        settings = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: expected name, data, network, ..., found {type(settings).__name__}")
    return settings


def _set(settings: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = settings.setdefault(section, {})
        if section == "recipe" and isinstance(inner, str):
            inner = settings[section] = {"preset": inner}
        if not isinstance(inner, dict):
            raise ValueError(f"{key}: {section} is not a section")
        settings = inner
    settings[last] = value


# In the place of an error, the type that a value of several types was compared with.
_TYPES = ("bool", "int", "float", Teacher.__name__, TimmBackbone.__name__)


def _location(error: Mapping[str, Any]) -> tuple[str, ...]:
    parts = [str(part) for part in error["loc"]]
    return tuple(part for part in parts if "[" not in part and part not in _TYPES)


def _explained(error: Mapping[str, Any]) -> str:
    *sections, last = _location(error) or ("",)
    where = ".".join((*sections, last))
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = _keys(sections)
        return f"{where}: no such setting; {suggestion(last, known)}"
    if error["type"] == "missing":
        return f"{where}: missing"
    return f"{where}: {message}, not {error['input']!r}" if where and error["type"] != "value_error" else message


def _keys(sections: list[str]) -> list[str]:
    model = Experiment
    for section in sections:
        kind = model.model_fields[section].annotation
        # Of the types of a section that may be another value, too, the one with settings.
        model = next(iter(part for part in get_args(kind) if isinstance(part, type) and part is not type(None)), kind)
    return list(model.model_fields) if issubclass(model, BaseModel) else [field.name for field in fields(model)]
