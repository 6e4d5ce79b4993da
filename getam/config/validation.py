"""The check of the workflow's whole configuration: first its shape, by JSON schema, then every name in it."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from getam.config.experiment_file import parse_yaml
from getam.config.tables import check_studies

_WORDS = {"null": None, "true": True, "false": False}


def check_configuration(config: Mapping[str, Any], schemas: Path, archives: Iterable[str]) -> None:
    """Checks the configuration before anything runs.

    Args:
        config: the workflow's configuration.
        schemas: folder of the JSON schemas, <name>.schema.yaml; config.schema.yaml is that of the whole.
        archives: names of the registry of archives.

    Raises:
        ValueError: one message for everything that is wrong, which names each key.
    """
    if isinstance(config.get("saliency"), str):
        raise ValueError(
            f"saliency: expected a mapping of entries, not {config['saliency']!r}; the source of all saliency maps is "
            f"another key: saliency_source={config['saliency']}"
        )
    if wrong := _violations(config, schemas):
        raise ValueError("\n".join(("The configuration is wrong.", *wrong)))
    try:
        check_studies(config, archives)
    except ValueError as error:
        raise ValueError(f"The configuration is wrong. {error}") from None


def restore_types(config: dict[str, Any], schemas: Path) -> None:
    """Turns strings into the numbers, truth values and nulls that they stand for, where the schema allows no string.

    Snakemake reads every value inside `--config 'key={inner: value}'` as a string.

    Args:
        config: the workflow's configuration, which is changed.
        schemas: as for `check_configuration`.
    """
    _restore_words(config)
    for error in _errors(config, schemas):
        error = _closest(error)
        if isinstance(error.instance, str) and error.absolute_path:
            *path, last = error.absolute_path
            inner = config
            for key in path:
                inner = inner[key]
            with suppress(yaml.YAMLError):
                inner[last] = parse_yaml(error.instance)


def _restore_words(value: Any) -> None:
    """These words everywhere: where the schema allows a path, too, it would be taken for one."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        if isinstance(inner, str) and inner in _WORDS:
            value[key] = _WORDS[inner]
        else:
            _restore_words(inner)


def _violations(config: Mapping[str, Any], schemas: Path) -> list[str]:
    return [_explained(error) for error in _errors(config, schemas)]


def _errors(config: Mapping[str, Any], schemas: Path) -> list[Any]:
    # An extra of the package, which the commands do without.
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    contents = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in schemas.glob("*.schema.yaml")}
    registry = Registry().with_resources((name, Resource.from_contents(schema)) for name, schema in contents.items())
    checker = Draft202012Validator(contents["config.schema.yaml"], registry=registry)
    return sorted(checker.iter_errors(config), key=lambda error: list(map(str, error.absolute_path)))


def _explained(error: Any) -> str:
    """Key and message of a violation."""
    error = _closest(error)
    return f"{'.'.join(map(str, error.absolute_path)) or 'configuration'}: {error.message}"


def _closest(error: Any) -> Any:
    """The violation itself; where a value may be of several kinds, that of the kind which it fits best."""
    while error.context:
        error = max(
            error.context,
            key=lambda inner: (len(inner.absolute_path), inner.validator != "type", inner.validator != "enum"),
        )
    return error
