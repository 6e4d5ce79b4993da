"""The two presets hold docs/explanation/method.md section 8's table; overrides and typos."""

import pytest

from getam import load_recipe

SIDES = (
    "optimiser",
    "saliency_target",
    "mining_conflict",
    "start_layer",
    "heads",
    "padding",
    "weight_standardisation",
)


@pytest.mark.parametrize("side", ["released", "paper"])
def test_presets(side):
    recipe = load_recipe(side)
    assert {getattr(recipe, name) for name in SIDES} == {side}
    assert (recipe.background_power, recipe.mining_quantile, recipe.opening) == (32, 0.9, 10)


def test_numbers_behind_the_names():
    released, paper = load_recipe("released"), load_recipe("paper")
    assert (released.momentum, released.weight_decay) == (5e-4, 0)
    assert (paper.momentum, paper.weight_decay) == (0.9, 5e-4)
    backbones = ("vitb_hybrid", "vitb", "deit", "deit_distilled")
    assert [released.first_block(name) for name in backbones] == [6, 6, 6, 6]
    assert [paper.first_block(name) for name in backbones] == [6, 0, 0, 0]
    assert released.first_block("vit_micro_hybrid") == 0  # it has four blocks


@pytest.mark.parametrize("setting", SIDES)
def test_single_overrides(setting):
    recipe = load_recipe("released", **{setting: "paper"})
    assert [name for name in SIDES if getattr(recipe, name) == "paper"] == [setting]


def test_refusals():
    with pytest.raises(ValueError, match="unknown recipe 'best'; known are released, paper"):
        load_recipe("best")
    with pytest.raises(ValueError, match="unknown setting 'salency_target' of a recipe; did you mean saliency_target?"):
        load_recipe("released", salency_target="paper")
    with pytest.raises(ValueError, match="saliency_target is 'released' or 'paper', not 'both'"):
        load_recipe("released", saliency_target="both")
    with pytest.raises(ValueError, match="mining_quantile is between 0 and 1, not 90"):
        load_recipe("released", mining_quantile=90)
    with pytest.raises(ValueError, match="opening is a whole number of pixels, not 2.5"):
        load_recipe("released", opening=2.5)
    with pytest.raises(ValueError, match="opening is a finite number, not inf"):
        load_recipe("released", opening=float("inf"))
    with pytest.raises(ValueError, match="background_power is a number, not '32'"):
        load_recipe("released", background_power="32")
    with pytest.raises(ValueError, match="background_power is above 0, not 0"):
        load_recipe("released", background_power=0)
