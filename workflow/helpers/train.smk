# Helpers of rules/train.smk.
from getam.config.entries import first_phase_of_run

TRAINED = rf"(?!({'|'.join(map(re.escape, RELEASED)) or '$'})\b)\w+(-seed\d+)?"
PROGRAM = f"torchrun --standalone --nproc-per-node {config['gpus']} -m getam.cli" if config["gpus"] > 1 else "getam"


@cache
def first_phase_of(run):
    """The state that a run starts from, if it has a first phase."""
    phase = first_phase_of_run(run, config)
    return [] if phase is None else f"<results>/first_phases/{phase}/first_phase.pt"


def folder_of(file):
    """The folder of a file, or None for no file."""
    return str(Path(file).parent) if file else None


def checkpoint_of(wildcards):
    """The file of the authors' weights of a run."""
    return ARCHIVES[entry_of(wildcards.run, config)["checkpoint"]]["file"]
