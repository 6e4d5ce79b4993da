"""The JSON schema of an entry of config/experiments.yaml, derived from `getam.config.experiment`.

`make schemas` writes it to workflow/schemas/experiment.schema.yaml, with which the workflow checks its configuration.
"""

from typing import Any

import yaml

from getam.config.experiment import Experiment
from getam.config.recipe import PRESETS


def entry_schema() -> dict[str, Any]:
    """The schema of an experiment with the keys of an entry; nothing is required, as an entry may extend another."""
    schema = _relaxed(Experiment.model_json_schema())
    definitions = schema.pop("$defs")
    definitions["Recipe"]["properties"]["preset"] = {"enum": list(PRESETS)}
    schema["properties"]["recipe"] = {"anyOf": [{"enum": list(PRESETS)}, {"$ref": "#/$defs/Recipe"}]}
    del schema["properties"]["name"]
    schema["properties"] |= {
        "extends": {"type": "string", "description": "entry of recipes or experiments to inherit settings from"},
        "checkpoint": {"type": "string", "description": "archive with the authors' weights; nothing is trained"},
        "seeds": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": "integer", "minimum": 0},
            "description": "override the configuration's seeds",
        },
    }
    header = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "Written by `make schemas` from getam/config/experiment.py.",
    }
    return {**header, **schema, "title": "Entry", "$defs": definitions}


def _relaxed(schema: Any) -> Any:
    """Drops required keys, defaults (an entry inherits those of the one it extends), titles and docstrings."""
    if isinstance(schema, list):
        return [_relaxed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    relaxed = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):  # the keys below are names, not keywords of the schema
            relaxed[key] = {name: _relaxed(part) for name, part in value.items()}
        elif key not in ("required", "default", "title", "description"):
            relaxed[key] = _relaxed(value)
    return relaxed


if __name__ == "__main__":
    print(yaml.safe_dump(entry_schema(), sort_keys=False, width=120), end="")
