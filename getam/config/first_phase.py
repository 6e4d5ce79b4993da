"""The first phase, which learns the classes alone, on its own: experiments that differ only in what follows share it.

Maps, labels, saliency and the losses of the decoder have no part in it, so all of the paper's methods and most of its
ablations begin alike. A run that goes on from a shared first phase ends with the bits that it would have had alone.
"""

import hashlib

from getam.config.backbone_specs import BACKBONES
from getam.config.experiment import Crf, Experiment, Inference, Maps, Training, training_digest
from getam.config.recipe import Recipe

# The state after the first phase, in a folder of its own, beside history.csv and provenance.json.
FIRST_PHASE = "first_phase.pt"
_JOINT = ("joint_factor", "split_cross_entropy", "dense_energy")


def first_phase_of(experiment: Experiment) -> Experiment | None:
    """The experiment with defaults for all that its first phase does not depend on, or None where it has no such phase.

    Experiments share a first phase if this gives the same for both.
    """
    training, recipe = experiment.training, experiment.recipe
    if training.classification == 0:
        return None
    default, of_both = Training(), {}
    if training.optimiser == "sgd":
        of_both["optimiser"] = recipe.optimiser
    if BACKBONES[experiment.network.backbone].stages:
        of_both["weight_standardisation"] = recipe.weight_standardisation
    changes = {
        "name": "first_phase",
        "data": experiment.data.model_copy(update={"saliency": None}),
        "recipe": Recipe(**of_both),
        "maps": Maps(),
        "training": training.model_copy(update={name: getattr(default, name) for name in _JOINT}),
        "inference": Inference(),
        "crf": Crf(),
    }
    return experiment.model_copy(update=changes)


def first_phase_name(experiment: Experiment) -> str | None:
    """A name that says what its first phase is made from, the same for all seeds; None where it has none."""
    phase = first_phase_of(experiment)
    if phase is None:
        return None
    # Where files lie is no part of the digest.
    places = (str(phase.data.dataset), str(phase.network.pretrained))
    unseeded = training_digest(phase.model_copy(update={"seed": 0}))
    return hashlib.sha256("\n".join((unseeded, *places)).encode()).hexdigest()[:12]
