import numpy as np
import pytest
import torch
from torch import nn

from getam import build_model, load_experiment, load_recipe
from getam.config.training import Training
from getam.training.optimisation import (
    begin_momentum,
    first_joint_step,
    learning_rate,
    make_optimiser,
    set_learning_rate,
)


def test_the_released_optimiser_and_schedule_exactly(golden_folder):
    with np.load(golden_folder / "vitb_hybrid.npz") as file:
        expected = file["poly_sgd"]
    module = nn.Linear(8, 1, bias=False)
    module.weight = nn.Parameter(torch.linspace(-1, 1, 8))
    training, goal = Training(), torch.arange(8) / 8
    optimiser = make_optimiser(module, training, load_recipe("released"))
    for step, weights in enumerate(expected):
        set_learning_rate(optimiser, learning_rate(training, step, 10))
        optimiser.zero_grad()
        (module.weight - goal).square().sum().backward()
        optimiser.step()
        assert np.abs(module.weight.detach().numpy() - weights).max() < 1e-6


def test_published_numbers():
    training, steps = Training(), (10_582 // 4) * 20
    assert steps == 52_900
    assert first_joint_step(training, steps) == 26_450
    assert learning_rate(training, 0, steps) == 0.04
    assert learning_rate(training, 26_449, steps) == pytest.approx(0.04 * (1 - 26_449 / steps) ** 0.9)
    assert learning_rate(training, 26_450, steps) == pytest.approx(0.004 * 0.5**0.9)


def test_warmup_rises_linearly_to_the_rate():
    training = Training(warmup=3, power=0.0, joint_factor=1.0)
    rates = [learning_rate(training, step, 100) / training.rate for step in range(5)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1])


@pytest.mark.parametrize(("preset", "momentum", "decay"), [("released", 5e-4, 0), ("paper", 0.9, 5e-4)])
def test_arguments_of_sgd(preset, momentum, decay):
    (group,) = make_optimiser(nn.Linear(2, 2), Training(), load_recipe(preset)).param_groups
    assert (group["momentum"], group["weight_decay"]) == (momentum, decay)


def test_adamw():
    settings = {"optimiser": "adamw", "weight_decay": 0.02, "rate": 1e-3}
    source = {"name": "e", "data": {"dataset": "d", "saliency": None}, "network": {"backbone": "vitb"}}
    experiment = load_experiment({**source, "training": settings})
    optimiser = make_optimiser(nn.Linear(2, 2), experiment.training, experiment.recipe)
    assert isinstance(optimiser, torch.optim.AdamW)
    assert optimiser.param_groups[0]["weight_decay"] == 0.02


def test_what_begins_with_random_weights_has_a_rate_of_its_own():
    network = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 2, bias=False)})
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    training = Training(head_factor=10.0, rate=0.1)
    optimiser = make_optimiser(network, training, load_recipe("released"))
    set_learning_rate(optimiser, learning_rate(training, 0, 10))
    sum(parameter.sum() for parameter in network.parameters()).backward()
    optimiser.step()
    moved = {name: (before[name] - parameter).detach() for name, parameter in network.named_parameters()}
    for name, expected in (("backbone.weight", 0.1), ("backbone.bias", 0.1), ("head.weight", 1.0)):
        torch.testing.assert_close(moved[name], torch.full_like(moved[name], expected))


def test_groups_and_schedule_of_deeplab():
    """Chen et al. 2017: the classifier's weights at 10 times the rate, its biases at 20 times, poly 0.9."""
    experiment = load_experiment(
        {
            "name": "e",
            "data": {"dataset": "d", "saliency": None},
            "taught_by": "truth",
            "network": {"backbone": "deeplab_v2"},
            "recipe": {"optimiser": "paper"},
            "training": {"rate": 2.5e-4, "head_factor": 10, "bias_factor": 2, "steps": 20_000},
        }
    )
    network = build_model("deeplab_v2", 20)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)  # as with pretrained weights
    optimiser = make_optimiser(network, experiment.training, experiment.recipe)
    of_parameter = {id(parameter): group for group in optimiser.param_groups for parameter in group["params"]}
    for step, share in ((0, 1), (5_000, 0.75**0.9), (19_999, (1 / 20_000) ** 0.9)):
        set_learning_rate(optimiser, learning_rate(experiment.training, step, 20_000))
        for name, parameter in network.named_parameters():
            expected = {"weight": 2.5e-3, "bias": 5e-3} if name.startswith("classifier") else {"weight": 2.5e-4}
            if parameter.requires_grad:
                assert of_parameter[id(parameter)]["lr"] == pytest.approx(expected[name.split(".")[-1]] * share), name
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 104 + 8
    assert {(group["momentum"], group["weight_decay"]) for group in optimiser.param_groups} == {(0.9, 5e-4)}


def test_fused_sgd_with_parameters_that_begin_late():
    """The decoder has no gradient before the joint phase. Its momentum begins at zero, with the steps of plain SGD."""
    weights = []
    for fused in (False, True):
        torch.manual_seed(0)
        network = nn.ModuleDict({"early": nn.Linear(4, 4), "late": nn.Linear(4, 4)})
        optimiser = make_optimiser(network, Training(fused_optimiser=fused, rate=0.1), load_recipe("paper"))
        begin_momentum(optimiser)
        for step in range(4):
            optimiser.zero_grad()
            output = network["early"](torch.ones(2, 4))
            (network["late"](output) if step > 1 else output).square().sum().backward()
            optimiser.step()
        weights.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
    assert torch.allclose(*weights, rtol=1e-6, atol=1e-7)


def test_tensors_are_updated_one_after_the_other_on_the_cpu():
    # That `fused` is None and not False matters on a GPU: False would switch off the form that updates many at once.
    for settings in (Training(), Training(optimiser="adamw", weight_decay=0.1)):
        optimiser = make_optimiser(nn.Linear(2, 2), settings, load_recipe("released"))
        assert [optimiser.defaults[name] for name in ("fused", "foreach")] == [None, False]
