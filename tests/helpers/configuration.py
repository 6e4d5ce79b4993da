"""The repository's configuration, as the workflow reads it."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def read(name: str) -> dict:
    """A file of config/."""
    return yaml.safe_load((ROOT / "config" / name).read_text())


def overlaid(base: dict, over: dict) -> dict:
    """`base`, overridden by `over` key by key, as Snakemake does it with a --configfile."""
    for key, value in over.items():
        inner = base.get(key)
        base[key] = overlaid(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return base
