"""The contract every technique keeps, point 14: every pair that does not clash trains, and slot mates commute."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS
from golflab.model.technique import catalogue
from tests.contract_helpers import (
    BASE,
    NAMES,
    awake,
    default,
    finished,
    finite,
    ids_and_targets,
    refused,
    trained,
)
from tests.pairs import all_pairs, alone, design, pairs_in

SHARES = 8  # of the combined recipes, so that the processes of a test run can share them


def failure(recipe: Recipe) -> str | None:
    """What goes wrong in three steps, then bytes, then scores; None where all is finite."""
    try:
        result = trained(recipe)
        assert all(math.isfinite(point["loss"]) for point in result.curve), "a loss is not finite"
        weights = result.chosen(recipe.technique_in("average"))
        assert all(torch.isfinite(w).all() for w in weights.values()), "a weight is not finite"
        _, blob = finished(recipe, weights)
        assert finite(recipe, blob), "a score is not finite"
    except Exception as error:  # every failing pair is listed, not the first
        return f"{type(error).__name__}: {error}"
    return None


def smallest_failing(recipe: Recipe) -> Recipe:
    """A failing recipe without every technique it fails without too: what is left is the pair, or whatever is guilty."""
    before = None
    while before != recipe:
        before = recipe
        for technique in before.techniques:
            less = recipe.without(technique.name)
            if refused(less) is None and failure(less) is not None:
                recipe = less
    return recipe


def test_the_combined_recipes_hold_every_pair():
    assert all_pairs() <= set().union(*map(pairs_in, design()))
    assert len(all_pairs()) > 20 * len(design()), "hardly better than a recipe for each pair"


@pytest.mark.parametrize("share", range(SHARES))
def test_every_pair_that_does_not_clash_trains_three_finite_steps(share):
    """In recipes that hold many pairs at once; of one that fails, the few techniques that fail together are named."""
    for recipe in design()[share::SHARES]:
        if failure(recipe) is not None:
            guilty = smallest_failing(recipe)
            pytest.fail(f"{' + '.join(map(str, guilty.techniques))}: {failure(guilty)}")


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_every_pair_by_itself_trains_three_finite_steps(name):
    """With every later technique of the catalogue."""
    recipes = {later: alone(default(name), default(later)) for later in NAMES[NAMES.index(name) + 1 :]}
    found = {later: failure(recipe) for later, recipe in recipes.items() if recipe is not None}
    failures = [f"{name} + {later}: {why}" for later, why in found.items() if why is not None]
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("slot", [s.name for s in SLOTS.values() if s.many])
def test_slot_mates_commute(slot):
    """Techniques that share a slot give the same result in either order."""
    mates = [n for n, cls in catalogue().items() if cls.slot == slot]
    for a, b in itertools.combinations(mates, 2):
        one, two = BASE.with_(default(a), default(b)), BASE.with_(default(b), default(a))
        assert one == two
        if SLOTS[slot].stage == "model":
            model, ids = awake(one), ids_and_targets()[0]
            before = model.logits(ids)
            modules = getattr(model, slot)
            setattr(model, slot, torch.nn.ModuleDict(reversed(list(modules.items()))))
            assert torch.allclose(model.logits(ids), before, atol=1e-5)
