"""What provenance.json says of a training: its settings' origin, data, code, machine and time."""

import time
from collections.abc import Mapping
from typing import Any

from getam.config.experiment import PROVENANCE, Experiment, Teacher
from getam.data.digests import saliency_source
from getam.training.distributed import Replica
from getam.utils import provenance
from getam.utils.files import read_json
from getam.utils.hardware import device_name


def describe_training(
    experiment: Experiment, identity: Mapping[str, str], this: Replica, steps: int, seconds: float
) -> dict[str, Any]:
    """The content of provenance.json of a training that has just ended.

    Args:
        identity: digests of everything that the weights depend on, by name.
        steps: number of steps, those before an interruption included.
        seconds: since the training began or was resumed.
    """
    return {
        "experiment": experiment.name,
        "seed": experiment.seed,
        **_origin_of_labels(experiment),
        "made_from": dict(identity),
        **provenance.environment(),
        "device": device_name(this.device.type),
        "processes": this.count,
        "steps": steps,
        "seconds_of_the_last_session": round(seconds, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _origin_of_labels(experiment: Experiment) -> dict[str, Any]:
    """The source of the saliency maps; with given labels also their origin, and a teacher's source of saliency maps."""
    taught_by = experiment.taught_by
    if taught_by is None:
        return {"saliency": saliency_source(experiment.data.saliency)}
    if not isinstance(taught_by, Teacher):
        return {"taught_by": taught_by, "saliency": "none"}
    made = taught_by.run / PROVENANCE
    saliency = read_json(made).get("saliency", "none") if made.is_file() else "not noted"
    return {"taught_by": f"{taught_by.labels} of {taught_by.run.name}", "saliency": saliency}
