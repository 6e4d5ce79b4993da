# What several rules need: the checked configuration, and answers about it. Settings are resolved in getam/config/entries.py.
import hashlib
import json
import re
import shlex
from functools import cache
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from getam.config.entries import (
    entry_of,
    first_phase_of_run,
    settings_of,
    settings_of_first_phase,
)
from getam.config.experiment_file import load_experiment
from getam.config.tables import (
    MASKS,
    SCORE_FILES,
    check_studies,
    experiments_of,
    rows_of,
    runs_of_row,
    score_file,
)
from getam.utils.provenance import step_digest
from snakemake.exceptions import WorkflowError


def check_configuration():
    """One message for all that is wrong, naming each key."""
    if isinstance(config.get("seeds"), list):
        # Lists of the command line (--config 'seeds=[0,1]') come as texts.
        config["seeds"] = [int(seed) if str(seed).isdecimal() else seed for seed in config["seeds"]]
    folder = Path(workflow.basedir) / "workflow" / "schemas"
    schemas = {path.name: yaml.safe_load(path.read_text()) for path in folder.glob("*.schema.yaml")}
    registry = Registry().with_resources((name, Resource.from_contents(schema)) for name, schema in schemas.items())
    checker = Draft202012Validator(schemas["config.schema.yaml"], registry=registry)
    wrong = [
        f"{'.'.join(map(str, error.absolute_path)) or 'configuration'}: {explained(error)}"
        for error in sorted(
            checker.iter_errors(config),
            key=lambda error: list(map(str, error.absolute_path)),
        )
    ]
    if wrong:
        raise WorkflowError("The configuration is wrong.", *wrong)
    try:
        check_studies(config, ARCHIVES)
    except ValueError as error:
        raise WorkflowError(f"The configuration is wrong. {error}") from None


def explained(error):
    # Of several things that a value may be, it is most likely meant to be the one that it fits best.
    while error.context:
        error = max(
            error.context,
            key=lambda inner: (len(inner.absolute_path), inner.validator != "type", inner.validator != "enum"),
        )
    return error.message


REGISTRY = f"{workflow.basedir}/config/archives.yaml"
ARCHIVES = yaml.safe_load(Path(REGISTRY).read_text())
check_configuration()

DEVICE = config["device"]
PROGRAM = f"torchrun --standalone --nproc-per-node {config['gpus']} -m getam.cli" if config["gpus"] > 1 else "getam"
EXPERIMENTS = f"{config['pathvars']['results']}/experiments"
FILES = {archive["file"]: name for name, archive in ARCHIVES.items()}
RELEASED = [name for name in config["experiments"] if "checkpoint" in entry_of(name, config)]
TRAINED = rf"(?!({'|'.join(map(re.escape, RELEASED)) or '$'})\b)\w+(-seed\d+)?"
PHASE = r"[0-9a-f]{12}-seed\d+"  # what a first phase is made from
SHARDS = [f"{i}-of-{config['shards']}" for i in range(1, config["shards"] + 1)]


wildcard_constraints:
    run=r"\w+(-seed\d+)?",
    saliency="|".join(map(re.escape, config["saliency"])) or "$",
    experiment=r"\w+",
    split=r"[a-z_]+",
    shard=r"\d+-of-\d+",
    archive="|".join(map(re.escape, ARCHIVES)),
    file="|".join(map(re.escape, FILES)),
    table="|".join(map(re.escape, config["tables"])),


@cache
def settings(run):
    """Settings of a run, or of the first phase of several; an unknown name is one clear message."""
    try:
        return (settings_of_first_phase if re.fullmatch(PHASE, run) else settings_of)(run, config)
    except ValueError as error:
        raise WorkflowError(str(error)) from None


@cache
def first_phase_of(run):
    """What a run goes on from, if it has a first phase."""
    phase = first_phase_of_run(run, config)
    return [] if phase is None else f"<results>/first_phases/{phase}/first_phase.pt"


def section(*names):
    """Function of the wildcards: some sections of a run's settings, without the folders where files lie."""

    def of(wildcards):
        chosen = {name: value for name, value in settings(wildcards.run).items() if name in names}
        if "data" in chosen:
            chosen["data"] = {key: value for key, value in chosen["data"].items() if key == "split"}
        if "network" in chosen and isinstance(pretrained := pretrained_of(wildcards), str):
            chosen["network"] = {**chosen["network"], "pretrained": Path(pretrained).name}
        return chosen

    return of


def dataset_of(wildcards):
    """The description of the data set that a run works on."""
    return f"{settings(wildcards.run)['data']['dataset']}/dataset.json"


def saliency_of(wildcards):
    """The manifest of the saliency maps of a split, or of what a run is taught with, if there are any."""
    data = load_experiment(settings(wildcards.run)).data
    return [] if data.saliency is None else f"{data.saliency}/complete-{wildcards.get('split', data.split)}.json"


def pretrained_of(wildcards):
    """The file of ImageNet weights that a run starts from, if it is a file."""
    path = settings(wildcards.run)["network"].get("pretrained", True)
    return path if isinstance(path, str) else []


def folder_of(file):
    """Where a file lies, or None where there is none."""
    return str(Path(file).parent) if file else None


def experiment_of(wildcards, output):
    """All settings of a run, for the command to write down."""
    return json.dumps(settings(wildcards.run))


def checkpoint_of(wildcards):
    """The file of the authors' weights that a run takes."""
    return ARCHIVES[entry_of(wildcards.run, config)["checkpoint"]]["file"]


def verify(path):
    """The beginning of a command that uses a file of the registry: somebody may have put it there by hand."""
    name = FILES.get(Path(path).name) if isinstance(path, str) else None
    if name is None:
        return ""
    folder = Path(path).parent
    return f"getam fetch {name} --folder {folder} --registry {REGISTRY} --lock {folder}/archives.lock.yaml;"


def digest_of(*names):
    """Of files in workflow/scripts: Snakemake compares no code, as touching a file would be a change."""
    folder = Path(workflow.basedir) / "workflow" / "scripts"
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()


def captions():
    """The texts of the page, as `digest_of` takes them."""
    return [f"../report/{path.name}" for path in sorted(Path(workflow.basedir, "workflow", "report").iterdir())]


def manifests(described):
    """What unpacking the archives of a data set, or of saliency maps, writes."""
    return [f"<resources>/unpacked/{archive}.json" for archive in described.get("archives") or []]


def to_options(options):
    """Options of a command, without those that are null."""
    found = []
    for key, value in options.items():
        if value is True:
            found.append(f"--{key}")
        elif value is not None and value is not False:
            values = value if isinstance(value, list) else [value]
            found += [f"--{key}", *map(str, values)]
    return shlex.join(found)


def source_of(described):
    """Options of `getam saliency`; a path is left out where the source has none, so that another one is a single key."""
    keys = ["source", "threshold", *(["path"] if described["source"] in ("folder", "u2net") else [])]
    return {key: described.get(key) for key in keys}


def maps_of(described):
    """What unpacking writes, where saliency maps come from archives."""
    return manifests(described) if described["source"] == "folder" else []


def model_of(described):
    """The network's file, where saliency is U2-Net's."""
    return ancient(described["path"]) if described["source"] == "u2net" else []


def scores_of(rows):
    """What a table is read from, once each."""
    found = []
    for row in rows:
        for runs in runs_of_row(row, config):
            found += [f"<results>/experiments/{score_file(row, run)}" for run in runs]
        if row.submission:
            found.append(f"<results>/voc_test/{row.submission}.tar.gz")
    return list(dict.fromkeys(found))


def described(rows):
    """Rows as a script takes them: with the runs of each."""
    return [
        {
            **vars(row),
            "runs": runs,
            "minus_runs": minus,
            "score": SCORE_FILES[row.what],
        }
        for row in rows
        for runs, minus in [runs_of_row(row, config)]
    ]


def row_of(wildcards):
    """The row of the main table that an experiment gives."""
    rows = [row for row in rows_of("voc_val_miou", config) if row.experiment == wildcards.experiment]
    if not rows:
        known = ", ".join(experiments_of(rows_of("voc_val_miou", config)))
        raise WorkflowError(f"voc_val_miou has no row of an experiment {wildcards.experiment!r}; it has {known}")
    return rows


def reported():
    """Runs of the tables that the report shows, each with the split that it is scored on."""
    rows = [row for table in config["report"] for row in rows_of(table, config) if row.experiment]
    return list(dict.fromkeys((run, row.split) for row in rows for runs in runs_of_row(row, config) for run in runs))


def figures(_):
    """Every picture of the report."""
    return [
        f"<results>/figures/{run}/{name}"
        for run, split in reported()
        for name in (
            *([] if run in RELEASED else ["history.svg", f"panels_{split}.png"]),
            f"classes_{split}.svg",
            f"confusion_{split}.svg",
            "run.html",
        )
    ]


def labels_of(figure):
    """How the report's menu calls a picture."""
    return lambda wildcards: {"run": wildcards.run, "figure": figure}
