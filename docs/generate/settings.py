"""The page of settings: of an experiment, from its pydantic model, and of the workflow, from config/config.yaml."""

import inspect
import json
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel

import getam
from docs.generate.docstrings import meanings, parse
from docs.generate.markdown import GENERATED, code, joined, prose, table
from getam.config.experiment import Experiment
from getam.config.recipe import PRESETS, Recipe
from getam.lattice.settings import CrfSettings

_ROOT = Path(__file__).parents[2]
_COLUMNS = ("key", "value", "default", "meaning")
_INTRODUCTION = """An experiment is one YAML file. It names the settings that differ from the defaults, which are the
published ones; the run's `experiment.yaml` contains all of them. Unknown keys and values of the wrong type are
errors that suggest the right key.

```yaml
name: voc_vitb_hybrid
seed: 0
data: {dataset: resources/datasets/voc, split: train_aug, saliency: resources/saliency/voc/authors}
network: {backbone: vitb_hybrid, pretrained: resources/archives/jx_vit_base_resnet50_384-9fd3c705.pth}
recipe: released          # or paper, or {preset: released, saliency_target: paper}
training: {crop: 256, batch: 4, epochs: 20}
```

`--set training.epochs=5 seed=1` overrides the file; settings in braces may be given in place of a file. The settings
for speed ([GPU](../how-to/gpu.md)) are off by default: a joint step then equals the released code's up to float32
rounding (losses to 1e-5, gradient norms to 1e-4). No number depends on `monitoring`."""
_WORKFLOW = """Keys of [config.yaml](../../config/config.yaml), with its comments. `--configfile own.yaml` overrides
them key by key, and so does `--config 'seeds=[0,1]' device=cpu`."""


def page() -> str:
    """The page.

    Raises:
        ValueError: a setting of an experiment has no meaning in a docstring.
    """
    schema = Experiment.model_json_schema()
    parts = {name: _section(name, field.annotation, schema) for name, field in Experiment.model_fields.items()}
    top = [name for name, part in parts.items() if part is None]
    whole = table(_COLUMNS, [_row(name, Experiment, schema) for name in top])
    parts |= {name: _alternative(name, Experiment, schema) for name in top}
    return joined(
        "# Settings",
        GENERATED,
        "## Of an experiment",
        _INTRODUCTION,
        whole,
        *(part for part in parts.values() if part),
        "## Of the workflow",
        _WORKFLOW,
        table(("key", "default", "meaning"), _workflow()),
    )


def _section(name: str, model: Any, schema: dict) -> str | None:
    """A section of an experiment; None for a setting that has none."""
    if model is Recipe:
        return joined(f"### {code(name)}", prose(_recipe_text()), table(_COLUMNS, _recipe_rows()))
    if not (inspect.isclass(model) and issubclass(model, BaseModel)):
        return None
    names = list(model.model_fields)
    of_schema = schema["$defs"][model.__name__]
    nested = [
        key
        for key in names
        if inspect.isclass(kind := model.model_fields[key].annotation) and issubclass(kind, BaseModel)
    ]
    rows = [_row(key, model, schema, of_schema) for key in names if key not in nested]
    parts = [f"### {code(name)}", _text(model), table(_COLUMNS, rows)]
    for key in nested:
        parts.append(_section(f"{name}.{key}", model.model_fields[key].annotation, schema))
    return joined(*parts, *filter(None, (_alternative(key, model, schema, f"{name}.") for key in names)))


def _alternative(key: str, model: type[BaseModel], schema: dict, above: str = "") -> str | None:
    """The settings of a mapping that a setting may be, beside other values."""
    kinds = get_args(model.model_fields[key].annotation)
    models = [kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, BaseModel)]
    return _section(f"{above}{key}", models[0], schema) if models else None


def _row(key: str, model: type[BaseModel], schema: dict, of_schema: dict | None = None) -> tuple[str, str, str, str]:
    of_schema = of_schema or schema
    field = model.model_fields[key]
    default = "required" if field.is_required() else code(_plain(field.default))
    meaning = _meanings(model).get(key)
    if meaning is None:
        raise ValueError(
            f"{model.__name__}.{key} has no meaning: write `{key}: ...` in the docstring of {model.__name__}"
        )
    return code(key), _kind(of_schema["properties"][key], schema), default, prose(meaning)


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """From the docstring of the section, or from the arguments of the functions that it says it has."""
    text, names = inspect.getdoc(model), list(model.model_fields)
    found = {}
    for function in re.findall(r"`(\w+)`", text.split("\n\n")[0]):
        target = {"CrfSettings": CrfSettings}.get(function) or getattr(getam, function, None)
        if target is None:
            continue
        arguments = parse(inspect.getdoc(target)).sections.get("Args", {})
        found |= {key: _sentence(text) for keys, text in arguments.items() for key in keys.split(", ")}
        if target is CrfSettings:
            found |= meanings(inspect.getdoc(target), names)
    return {**found, **meanings(text, names)}


def _sentence(text: str) -> str:
    """Without the lists below it."""
    return re.split(r"\n +(?=\w+: )", text)[0].strip().rstrip(":.")


def _text(model: type[BaseModel]) -> str:
    """What the docstring says before the first setting."""
    first = inspect.getdoc(model).split("\n\n")[0]
    return "" if re.match(r"\w+: ", first) else prose(first)


def _kind(schema: dict, whole: dict) -> str:
    """The values that a JSON schema allows, in words."""
    if "$ref" in schema:
        return _kind(whole["$defs"][schema["$ref"].rsplit("/", 1)[1]], whole)
    if "anyOf" in schema:
        return " or ".join(_kind(part, whole) for part in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    if "properties" in schema:
        return f"mapping with {', '.join(map(code, schema['properties']))}"
    if schema.get("type") == "array":
        parts = schema.get("prefixItems")
        inner = ", ".join(_kind(part, whole) for part in parts) if parts else _kind(schema["items"], whole)
        return f"list: {inner}"
    names = {
        "integer": "whole number",
        "number": "number",
        "boolean": "true, false",
        "null": "null",
        "object": "mapping",
    }
    kind = names.get(schema.get("type"), "path" if schema.get("format") == "path" else "text")
    bounds = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    limits = [f"{word} {schema[key]:g}" for key, word in bounds.items() if key in schema]
    limits += [f"and a multiple of {schema['multipleOf']}"] if "multipleOf" in schema else []
    return " ".join([kind, *limits])


def _plain(value: Any) -> str:
    """A default as one writes it in YAML."""
    return json.dumps(value if not isinstance(value, tuple) else list(value))


def _recipe_text() -> str:
    return (
        "A preset, `released` or `paper`, or a mapping with `preset` and overrides. "
        "[The method](../explanation/method.md), section 8, has the reasons."
    )


def _recipe_rows() -> list[tuple[str, str, str, str]]:
    docstring = parse(inspect.getdoc(Recipe))
    found = docstring.sections["Attributes"]
    return [
        (
            code(field.name),
            ", ".join(map(code, PRESETS)) if isinstance(field.default, str) else "number",
            code(_plain(field.default if field.default is not MISSING else None)).replace('"', ""),
            prose(found[field.name].rstrip(".")),
        )
        for field in fields(Recipe)
    ]


def _workflow() -> list[tuple[str, str, str]]:
    """Key, default and comment of each top-level key of config.yaml."""
    text = (_ROOT / "config" / "config.yaml").read_text(encoding="utf-8")
    defaults = yaml.safe_load(text)
    rows, comment = [], []
    for line in text.split("\n\n", 1)[1].splitlines():
        if line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        elif match := re.match(r"(\w+):", line):
            default = defaults[match[1]]
            shown = code(_plain(default)) if not isinstance(default, dict) else "see the file"
            rows.append((code(match[1]), shown, prose(" ".join(comment))))
            comment = []
        elif not line.strip():
            comment = []
    return rows
