# Used by several files of rules: the checked configuration, and answers about it.
# Settings of a run are resolved in getam/config/entries.py.
import getpass
import hashlib
import json
import os
import re
import shlex
import sys
from functools import cache
from pathlib import Path

import yaml

from getam.config.entries import entry_of, settings_of, settings_of_first_phase
from getam.config.experiment_file import load_experiment
from getam.config.tables import MASKS
from getam.config.validation import check_configuration, restore_types
from getam.constants import BASE
from getam.data.parts import PARTS, part_of
from getam.utils.provenance import step_digest
from snakemake.exceptions import WorkflowError

# Snakemake puts the path of Python unquoted into the commands of `script:` rules and of the jobs that it starts.
if not sys.executable.startswith("'"):  # quoted already, where two modules of one workflow are this one
    sys.executable = shlex.quote(sys.executable)

# Snakemake logs the name of the user, which a uid without an entry in /etc/passwd does not have: any user of a container.
try:
    getpass.getuser()
except (KeyError, OSError):  # OSError from Python 3.13
    os.environ.update(USER=f"uid{os.getuid()}")

REGISTRY = own("config/archives.yaml")
ARCHIVES = yaml.safe_load(Path(REGISTRY).read_text())
SCHEMAS = [Path(own(f"workflow/schemas/{name}.schema.yaml")) for name in ("config", "experiment")]
restore_types(config, SCHEMAS[0].parent)
try:
    check_configuration(config, SCHEMAS[0].parent, ARCHIVES)
except ValueError as error:
    raise WorkflowError(str(error)) from None

DEVICE = config["device"]
RESULTS = config["pathvars"]["results"]
EXPERIMENTS = f"{RESULTS}/experiments"
FILES = {archive["file"]: name for name, archive in ARCHIVES.items()}
RELEASED = [name for name in config["experiments"] if "checkpoint" in entry_of(name, config)]
PHASE = r"[0-9a-f]{12}-seed\d+"  # name of a first phase: a digest of its settings, and the seed
SHARDS = [f"{i}-of-{config['shards']}" for i in range(1, config["shards"] + 1)]


wildcard_constraints:
    run=r"\w+(-seed\d+)?",
    saliency="|".join(map(re.escape, config["saliency"])) or "$",
    experiment=r"\w+",
    split=r"[a-z_]+",
    shard=r"\d+-of-\d+",
    archive="|".join(map(re.escape, ARCHIVES)),
    file="|".join(map(re.escape, FILES)),
    dataset="|".join(map(re.escape, config["datasets"])),
    part="|".join(sorted({part for parts in PARTS.values() for part in parts})),
    table="|".join(map(re.escape, config["tables"])),


@cache
def settings(run):
    """Settings of a run, or of a first phase that runs share; an unknown name is one clear message."""
    try:
        return (settings_of_first_phase if re.fullmatch(PHASE, run) else settings_of)(run, config)
    except ValueError as error:
        raise WorkflowError(str(error)) from None


def section(*names):
    """A function of the wildcards: some sections of a run's settings, without the folders of its files."""

    def of(wildcards):
        chosen = {name: value for name, value in settings(wildcards.run).items() if name in names}
        if "data" in chosen:
            chosen["data"] = {key: value for key, value in chosen["data"].items() if key == "split"}
        if isinstance(chosen.get("taught_by"), dict):
            chosen["taught_by"] = {**chosen["taught_by"], "run": Path(chosen["taught_by"]["run"]).name}
        if "network" in chosen and isinstance(pretrained := pretrained_of(wildcards), str):
            chosen["network"] = {**chosen["network"], "pretrained": Path(pretrained).name}
        return chosen

    return of


def dataset_of(wildcards):
    """The descriptions of the data set of a run: its first part, and the one that has the split or the training split."""
    data = load_experiment(settings(wildcards.run)).data
    return descriptions(data.dataset, wildcards.get("split", data.split))


def descriptions(folder, split):
    """The descriptions of the parts of a prepared data set that a split needs: the first, and its own."""
    name = Path(folder).name
    known = Path(folder).parent.name == "datasets" and name in config["datasets"]
    if known:
        part = part_of(config["datasets"][name]["kind"], split)
    else:  # prepared by hand
        part = split if Path(folder, f"{split}.json").is_file() else BASE
    return [f"{folder}/{part}.json" for part in dict.fromkeys((BASE, part))]


def saliency_of(wildcards):
    """The manifest of the saliency maps of a split, or else of the training split; none where no maps are used."""
    experiment = load_experiment(settings(wildcards.run))
    data = experiment.data
    given = experiment.taught_by is not None and "split" not in wildcards.keys()
    return (
        [] if data.saliency is None or given else f"{data.saliency}/complete-{wildcards.get('split', data.split)}.json"
    )


def pretrained_of(wildcards):
    """The file of ImageNet weights that a run starts from, if it is a file."""
    path = settings(wildcards.run)["network"].get("pretrained", True)
    return path if isinstance(path, str) else []


def experiment_of(wildcards):
    """All settings of a run as JSON, which the command writes to experiment.yaml."""
    return json.dumps(settings(wildcards.run))


def received(path):
    """The receipt of a file of the registry, which `fetch` writes; any other file itself."""
    return f"{path}.json" if isinstance(path, str) and Path(path).name in FILES else path


def verify(path):
    """A command that verifies a file of the registry before it is used: it may have been placed by hand."""
    name = FILES.get(Path(path).name) if isinstance(path, str) else None
    if name is None:
        return ""
    options = {"folder": str(folder := Path(path).parent), "registry": REGISTRY, "lock": f"{folder}/archives.lock.yaml"}
    return f"getam fetch {name} {to_options(options)};"


def digest_of(*names):
    """sha256 of files in workflow/scripts. Snakemake itself would rerun what uses a script that is only touched."""
    return hashlib.sha256(b"".join(Path(own(f"workflow/scripts/{name}")).read_bytes() for name in names)).hexdigest()


@cache
def network_modules(run):
    """The modules that are imported by name for the network of a run, or of a first phase."""
    return load_experiment(settings(run)).network_modules()


def uncompared(value):
    """A param that does not decide what is rerun: Snakemake ignores params whose function takes `output`.

    value: the param, or a function of the wildcards.
    """
    return lambda wildcards, output: value(wildcards) if callable(value) else value


def to_options(options):
    """Options of a command, quoted for the shell; those that are null or false are left out."""
    found = []
    for key, value in options.items():
        if value is True:
            found.append(f"--{key}")
        elif value is not None and value is not False:
            values = value if isinstance(value, list) else [value]
            found += [f"--{key}", *map(str, values)]
    return shlex.join(found)
