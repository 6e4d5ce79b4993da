"""The first phase of training, which experiments can share.

It trains the classifier alone. Maps, pseudo labels, saliency and the decoder's losses have no effect on it, so all of
the paper's methods and most of its ablations have the same first phase. A run that continues from a shared one gets
the same weights, bit for bit, as if it had trained both phases itself.
"""

import hashlib

from getam.config.backbone_specs import BACKBONES
from getam.config.experiment import Crf, Experiment, Inference, Maps, training_digest
from getam.config.recipe import Recipe
from getam.config.training import Training

# The file of the state after the first phase, in a folder with history.csv and provenance.json.
FIRST_PHASE = "first_phase.pt"
_JOINT = ("joint_factor", "split_cross_entropy", "dense_energy")


def first_phase_of(experiment: Experiment) -> Experiment | None:
    """The experiment with defaults for all settings that do not affect its first phase; None if it has none.

    Two experiments share a first phase if the results are equal.
    """
    training, recipe = experiment.training, experiment.recipe
    if training.classification == 0:
        return None
    default, of_both = Training(), {}
    if training.optimiser == "sgd":
        of_both["optimiser"] = recipe.optimiser
    spec = BACKBONES.get(experiment.network.name)
    if spec is not None and spec.stages:
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
    """A digest of the settings of its first phase, the same for all seeds; None if it has no first phase."""
    phase = first_phase_of(experiment)
    if phase is None:
        return None
    # The digest does not cover the paths of files.
    places = (str(phase.data.dataset), str(phase.network.pretrained))
    unseeded = training_digest(phase.model_copy(update={"seed": 0}))
    return hashlib.sha256("\n".join((unseeded, *places)).encode()).hexdigest()[:12]
