# Helpers of rules/train.smk.
import uuid

from getam.config.entries import first_phase_of_run, teacher_of

TRAINED = rf"(?!({'|'.join(map(re.escape, RELEASED)) or '$'})\b)\w+(-seed\d+)?"
PROGRAM = f"torchrun --standalone --nproc-per-node {config['gpus']} -m getam.cli" if config["gpus"] > 1 else "getam"
# The request of this call of Snakemake, and the files that it forces, with bars between them. A job of a cluster is a call of its own,
# with --force for every job, and knows by this variable alone what the user has forced.
FORCED = "GETAM_FORCED"
if workflow.is_main_process:
    os.environ[FORCED] = uuid.uuid4().hex
else:
    os.environ.setdefault(FORCED, "")


def again(*names):
    """A param: `--again` if --forcerun, --force or --forceall name one of these rules, its output or its first phase.

    Otherwise Snakemake reruns a training because its inputs look newer or are back to earlier ones: a finished training
    from the same settings, data and code is used again.
    """

    def of(wildcards, input, output):
        if workflow.is_main_process:
            settings = workflow.dag_settings
            named = {*settings.forcerun, *(settings.targets if settings.forcetargets else ())}
            mine = {*output, str(input.get("first_phase", "")), *(getattr(rules, name).rule.name for name in names)}
            if settings.forceall or named & mine:
                os.environ[FORCED] += f"|{output[0]}"
        request, *forced = os.environ[FORCED].split("|")
        return to_options({"again": request if output[0] in forced else None})

    return of


@cache
def first_phase_of(run):
    """The state that a run starts from, if it has a first phase."""
    phase = first_phase_of_run(run, config)
    return [] if phase is None else f"<results>/first_phases/{phase}/first_phase.pt"


def given_labels(wildcards):
    """The manifests of the labels that a teacher gives to the training split, where there is a teacher."""
    teacher = teacher_of(wildcards.run, config)
    if teacher is None:
        return []
    experiment = load_experiment(settings(wildcards.run))
    split, output = experiment.data.split, experiment.taught_by.output
    return [f"<results>/experiments/{teacher}/{split}/{output}/complete-{shard}.json" for shard in SHARDS]


@cache
def training_modules(run):
    """The modules that a training imports by name."""
    return load_experiment(settings(run)).training_modules()


def folder_of(file):
    """The folder of a file, or None for no file."""
    return str(Path(file).parent) if file else None


def checkpoint_of(wildcards):
    """The file of the authors' weights of a run."""
    return ARCHIVES[entry_of(wildcards.run, config)["checkpoint"]]["file"]
