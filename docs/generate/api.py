"""The page of the Python API: every public name with its arguments, shapes, errors and example."""

import ast
import inspect
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import getam
import getam_lattice
from docs.generate.docstrings import Docstring, parse
from docs.generate.markdown import GENERATED, code, joined, prose, table

_INTRODUCTION = """All names are imported from `getam`; the module of a name, and with it torch, is imported at its
first use.

| word | meaning |
|---|---|
| `images` | normalised float (B, 3, H, W); sides are multiples of 32 (`normalise_images`) |
| `images_rgb` | 0..255, (B, 3, H, W) |
| `image_rgb` | one image: uint8 (H, W, 3), array or tensor, RGB |
| `labels` of images | (B, C), above 0 where the class is present |
| `labels` of pixels | uint8 (B, H, W): 0 background, 1..C classes, 255 unknown |
| `saliency` | (B, H, W), above 0 is salient |
| `valid` | (B, H, W), above 0 on real pixels, 0 on padding |
| probabilities | (C + 1, H, W) or (B, C + 1, H, W), background first |

The examples run as doctests."""
_GROUPS = {
    "Settings": ("load_recipe", "Recipe", "load_experiment"),
    "Network": (
        "build_model",
        "SegmentationNetwork",
        "normalise_images",
        "load_network",
        "load_released_checkpoint",
        "CheckpointError",
    ),
    "Maps": ("activation_maps", "ActivationRecord", "refine_maps", "normalise_maps", "explain"),
    "Pseudo labels": ("complete_labels", "saliency_target"),
    "Losses": ("classification_loss", "cross_entropy_loss", "saliency_loss", "DenseEnergyLoss"),
    "Training and prediction": ("open_dataset", "train", "predict_probabilities", "ConfusionMatrix"),
    "Bilateral filter and CRF": ("bilateral_filter", "dense_crf", "dense_crf_batch", "MeanField"),
}


def page() -> str:
    """The page.

    Raises:
        ValueError: a public name belongs to no group, or has no docstring.
    """
    listed = {name for names in _GROUPS.values() for name in names}
    forgotten = set(getam.__all__) - listed
    groups = {**_GROUPS, **({"Others": tuple(sorted(forgotten))} if forgotten else {})}
    parts = [
        part
        for title, names in groups.items()
        for part in _group(title, {name: getattr(getam, name) for name in names})
    ]
    lattice = {f"getam_lattice.{name}": getattr(getam_lattice, name) for name in ("dense_crf", "Kernel")}
    return joined("# Python API", GENERATED, _INTRODUCTION, *parts, *_group("Without torch", lattice))


def _group(title: str, objects: dict[str, Any]) -> list[str]:
    return [f"## {title}", *(part for name, value in objects.items() for part in _name(name, value))]


def _name(name: str, value: Any) -> list[str]:
    docstring = parse(inspect.getdoc(value))
    if inspect.isclass(value):
        return [f"### {name}", _signature(name, value), *_parts(docstring, _defaults(value)), *_methods(value)]
    return [f"### {name}", _signature(name, value), *_parts(docstring, _defaults(value))]


def _parts(docstring: Docstring, arguments: dict[str, tuple[str, str]]) -> list[str]:
    parts = [prose(docstring.text)]
    known = {
        name: meaning for names, meaning in docstring.sections.get("Args", {}).items() for name in names.split(", ")
    }
    rows = [(code(name), *arguments[name], prose(_inline(known.get(name, "")))) for name in arguments if name != "self"]
    if rows:
        parts.append(table(("argument", "type", "default", "meaning"), rows))
    if entries := docstring.sections.get("Attributes"):
        rows = [
            (", ".join(map(code, names.split(", "))), prose(_inline(meaning))) for names, meaning in entries.items()
        ]
        parts.append(table(("attribute", "meaning"), rows))
    if returned := docstring.sections.get("Returns"):
        if "" in returned:
            parts.append(f"**Returns** {prose(_inline(returned['']))}")
        else:
            parts.append(
                "**Returns**\n\n" + "\n".join(f"- {code(n)}: {prose(_inline(m))}" for n, m in returned.items())
            )
    if raised := docstring.sections.get("Raises"):
        parts.append("**Raises**\n\n" + "\n".join(f"- {code(n)}: {prose(_inline(m))}" for n, m in raised.items()))
    if docstring.example:
        parts.append(f"```pycon\n{docstring.example}```")
    return parts


def _inline(text: str) -> str:
    """One line; the names of a list inside an argument become code."""
    return " ".join(text.split())


def _function(value: Any) -> ast.FunctionDef | None:
    """The source of a function or of a class's __init__; unlike `inspect.signature` it is the same for every Python."""
    if inspect.isclass(value):
        value = value.__dict__.get("__init__")
    if not inspect.isfunction(value):
        return None
    try:
        tree = ast.parse(dedent(inspect.getsource(value))).body[0]
    except OSError:  # written by a decorator, as the __init__ of a dataclass
        return None
    return tree if isinstance(tree, ast.FunctionDef) else None


def _defaults(value: Callable) -> dict[str, tuple[str, str]]:
    """argument -> its type and default, as code."""
    function = _function(value)
    if function is None:
        return {}
    positional = [*function.args.posonlyargs, *function.args.args]
    defaults = [None] * (len(positional) - len(function.args.defaults)) + function.args.defaults
    pairs = [
        *zip(positional, defaults, strict=True),
        *zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True),
    ]
    if function.args.kwarg:
        pairs.append((function.args.kwarg, None))
    return {
        argument.arg: (
            code(ast.unparse(argument.annotation)) if argument.annotation else "",
            code(_shown(default, value)) if default else "",
        )
        for argument, default in pairs
    }


def _shown(default: ast.expr, value: Any) -> str:
    """A default, with the values of names such as METHODS[0]."""
    text = ast.unparse(default)
    function = value.__init__ if inspect.isclass(value) else value
    try:
        return repr(eval(text, function.__globals__)) if not isinstance(default, ast.Constant) else text
    except NameError:
        return text


def _signature(name: str, value: Any) -> str:
    function = _function(value)
    if function is None:
        return ""
    names = [argument.arg for argument in function.args.posonlyargs + function.args.args if argument.arg != "self"]
    required = len(names) - len(function.args.defaults)
    words = [*names[:required], *(f"{word}=..." for word in names[required:])]
    if function.args.kwonlyargs:
        words += ["*", *(f"{argument.arg}=..." for argument in function.args.kwonlyargs)]
    if function.args.kwarg:
        words.append(f"**{function.args.kwarg.arg}")
    returned = f" -> {ast.unparse(function.returns)}" if function.returns and not inspect.isclass(value) else ""
    return code(f"{name}({', '.join(words)}){returned}")


def _methods(value: type) -> list[str]:
    """The methods that the class itself documents."""
    entries = []
    for name, member in vars(value).items():
        function = member.fget if isinstance(member, property) else member
        if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
            continue
        docstring = parse(inspect.getdoc(function))
        shown = code(name) if isinstance(member, property) else _signature(f".{name}", function)
        entries.append(f"- {shown}: {prose(_inline(docstring.text))}")
    return ["\n".join(entries)] if entries else []
