"""The JSON schema of an entry of config/experiments.yaml, from `getam.config.experiment`: `make schemas` writes it.

The workflow checks its configuration with it before anything is imported that takes its time.
"""

from typing import Any

import yaml

from getam.config.experiment import Experiment
from getam.config.recipe import PRESETS


def entry_schema() -> dict[str, Any]:
    """An experiment of which nothing is required, as an entry may extend another; with an entry's own keys."""
    schema = _relaxed(Experiment.model_json_schema())
    definitions = schema.pop("$defs")
    definitions["Recipe"]["properties"]["preset"] = {"enum": list(PRESETS)}
    schema["properties"]["recipe"] = {"anyOf": [{"enum": list(PRESETS)}, {"$ref": "#/$defs/Recipe"}]}
    del schema["properties"]["name"]
    schema["properties"] |= {
        "extends": {"type": "string", "description": "entry of recipes or experiments whose settings hold, too"},
        "checkpoint": {"type": "string", "description": "archive with the authors' weights; nothing is trained"},
        "seeds": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": "integer", "minimum": 0},
            "description": "in place of the configuration's",
        },
    }
    header = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "Written by `make schemas` from getam/config/experiment.py.",
    }
    return {**header, **schema, "title": "Entry", "$defs": definitions}


def _relaxed(schema: Any) -> Any:
    """Without required keys, defaults (an entry that extends another has that one's), titles and docstrings."""
    if isinstance(schema, list):
        return [_relaxed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    relaxed = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):  # keys below are names, not the schema's own words
            relaxed[key] = {name: _relaxed(part) for name, part in value.items()}
        elif key not in ("required", "default", "title", "description"):
            relaxed[key] = _relaxed(value)
    return relaxed


if __name__ == "__main__":
    print(yaml.safe_dump(entry_schema(), sort_keys=False, width=120), end="")
