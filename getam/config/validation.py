"""The check of the workflow's whole configuration: first its shape, by JSON schema, then every name in it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from getam.config.tables import check_studies


def check_configuration(config: Mapping[str, Any], schemas: Path, archives: Iterable[str]) -> None:
    """Checks the configuration before anything runs.

    Args:
        config: the workflow's configuration.
        schemas: folder of the JSON schemas, <name>.schema.yaml; config.schema.yaml is that of the whole.
        archives: names of the registry of archives.

    Raises:
        ValueError: one message for everything that is wrong, which names each key.
    """
    if wrong := _violations(config, schemas):
        raise ValueError("\n".join(("The configuration is wrong.", *wrong)))
    try:
        check_studies(config, archives)
    except ValueError as error:
        raise ValueError(f"The configuration is wrong. {error}") from None


def _violations(config: Mapping[str, Any], schemas: Path) -> list[str]:
    # An extra of the package, which the commands do without.
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    contents = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in schemas.glob("*.schema.yaml")}
    registry = Registry().with_resources((name, Resource.from_contents(schema)) for name, schema in contents.items())
    checker = Draft202012Validator(contents["config.schema.yaml"], registry=registry)
    errors = sorted(checker.iter_errors(config), key=lambda error: list(map(str, error.absolute_path)))
    return [_explained(error) for error in errors]


def _explained(error: Any) -> str:
    """Key and message of a violation; where a value may be of several kinds, those of the kind that it fits best."""
    while error.context:
        error = max(
            error.context,
            key=lambda inner: (len(inner.absolute_path), inner.validator != "type", inner.validator != "enum"),
        )
    return f"{'.'.join(map(str, error.absolute_path)) or 'configuration'}: {error.message}"
