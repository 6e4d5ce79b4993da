"""The page of targets: the tables from config/paper.yaml, the files from the rules of the workflow."""

import re
from pathlib import Path

import yaml

from docs.generate.markdown import GENERATED, code, joined, table

_ROOT = Path(__file__).parents[2]
_INTRODUCTION = """`snakemake TARGET` makes a file and everything before it; `snakemake -n TARGET` lists the jobs.
Files lie below `results/`, or below the folder that `pathvars: {results: ...}` names."""
_COLUMNS = """Every table has the columns `row`, `split`, `paper`, `reproduced` (mean over the seeds), `spread`
(standard deviation), `difference`, `tolerance`, `state`, `experiment`, `seeds`, `saliency`, `source`, `note`.
`state` is *reproduced*, *differs*, *measured, nothing published*, or the reason why there is no number."""
_RULES = """Words in braces are yours: `run` is an experiment of `experiments.yaml`, with `-seed1` behind it for
another seed; `shard` is `1-of-1` unless `shards` is set."""


def page() -> str:
    """The page."""
    tables = yaml.safe_load((_ROOT / "config" / "paper.yaml").read_text(encoding="utf-8"))["tables"]
    parts = [part for name, content in tables.items() for part in _table(name, content)]
    return joined(
        "# Targets",
        GENERATED,
        _INTRODUCTION,
        "## Tables",
        _COLUMNS,
        *parts,
        "## Files",
        _RULES,
        table(("rule", "writes"), _rules()),
    )


def _table(name: str, content: dict) -> list[str]:
    defaults = content.get("defaults", {})
    rows = []
    for row in ({**defaults, **row} for row in content["rows"]):
        experiment = row.get("experiment") or row.get("submission")
        made = code(experiment) if experiment else ""
        if row.get("minus"):
            made += f" - {code(row['minus'])}"
        if row.get("submission"):
            made = f"{code(f'results/voc_test/{experiment}.tar.gz')}, scored by the server"
        published = row.get("paper")
        rows.append(
            (
                row["row"],
                row.get("split", "val"),
                "" if published is None else f"{published:g}",
                made or row.get("state", ""),
            )
        )
    return [
        f"### {code(f'results/{name}.csv')}",
        content["title"] + ".",
        table(("row", "split", "paper", "experiment"), rows),
    ]


def _rules() -> list[tuple[str, str]]:
    """The outputs of each rule, as its file declares them."""
    found = []
    for path in sorted((_ROOT / "workflow" / "rules").glob("*.smk")):
        for name, body in re.findall(
            r"^(?:rule|use rule \w+ as) (\w+)(?: with)?:\n((?:    .*\n|\n)+)",
            path.read_text(encoding="utf-8"),
            re.MULTILINE,
        ):
            output = re.search(r"^    output:\n((?:        .*\n)+)", body, re.MULTILINE)
            written = re.findall(r'"(<(?:results|resources)>/[^"]+)"', output[1]) if output else []
            paths = [re.sub(r"<(\w+)>", r"\1", path).replace("{{", "{").replace("}}", "}") for path in written]
            if paths:
                found.append((code(name), ", ".join(map(code, paths))))
    return found
