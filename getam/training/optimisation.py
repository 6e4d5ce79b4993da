"""The optimisers and the learning rate of both phases (docs/explanation/method.md section 5)."""

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from getam.config.recipe import Recipe
from getam.config.training import Training, first_joint_step


def make_optimiser(network: nn.Module, training: Training, recipe: Recipe) -> Optimizer:
    """SGD with the recipe's momentum and weight decay, or AdamW, over all parameters that are trained.

    Without `fused_optimiser` many tensors are updated at once on a GPU, as torch does by default, and one after the
    other on the CPU.
    """
    groups = _groups(network, training.head_factor, training.bias_factor)
    fused = training.fused_optimiser or None
    form = {"fused": fused, "foreach": None if fused else next(network.parameters()).is_cuda}
    if training.optimiser == "adamw":
        return torch.optim.AdamW(groups, training.rate, weight_decay=training.weight_decay, **form)
    return torch.optim.SGD(groups, training.rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay, **form)


def begin_momentum(optimiser: Optimizer) -> None:
    """Gives every parameter of fused SGD its momentum, zero where it has none yet.

    torch's fused step needs that of all parameters or of none, and the decoder has no gradient before the joint phase.
    A momentum of zero gives the same step as none.
    """
    for group in optimiser.param_groups:
        if isinstance(optimiser, torch.optim.SGD) and group["fused"] and group["momentum"]:
            for parameter in group["params"]:
                if optimiser.state[parameter].get("momentum_buffer") is None:
                    optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _groups(network: nn.Module, head_factor: float, bias_factor: float) -> list[dict[str, Any]]:
    """Parameter groups with the factor of their rate: one of all, or the backbone, the rest, and the rest's biases."""
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    if head_factor == bias_factor == 1:
        return [{"params": list(trained.values()), "factor": 1.0}]
    own = {name: bias_factor if name.rpartition(".")[2] == "bias" else 1.0 for name in trained}
    factors = {name: 1.0 if name.startswith("backbone.") else head_factor * own[name] for name in trained}
    groups: dict[float, list[nn.Parameter]] = {factor: [] for factor in (1.0, head_factor, head_factor * bias_factor)}
    for name, parameter in trained.items():
        groups[factors[name]].append(parameter)
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items() if parameters]


def learning_rate(training: Training, step: int, steps: int) -> float:
    """rate (1 - step / steps)^power for step 0 to steps - 1, times `joint_factor` in the joint phase."""
    rate = training.rate * (1 - step / steps) ** training.power
    if step >= first_joint_step(training, steps):
        rate *= training.joint_factor
    return rate * min(1, (step + 1) / (training.warmup + 1))


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Sets the rate of the next step; each parameter group has its multiple of it."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]
