"""The contract every technique keeps, point 14: every pair that does not clash trains, and slot mates commute."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from model.artifact import unpack
from model.recipe import Recipe
from model.technique import SLOTS, Technique, catalogue
from tests.contract_helpers import (
    BASE,
    NAMES,
    TRAINED_STAGES,
    awake,
    default,
    finished,
    ids_and_targets,
    recipe_with,
    scored,
    trained,
)

every = pytest.mark.parametrize("name", NAMES)


@every
def test_every_pair_that_does_not_clash_trains_three_finite_steps(name):
    """With every later technique of the catalogue: three steps, then bytes, then scores, all finite."""
    first, failures = default(name), []
    for second in map(default, NAMES[NAMES.index(name) + 1 :]):
        recipe = pair(first, second)
        if recipe is None:
            continue
        try:
            result = trained(recipe)
            assert all(math.isfinite(point["loss"]) for point in result.curve)
            weights = result.chosen(recipe.tenant("average"))
            assert all(torch.isfinite(w).all() for w in weights.values())
            if meets_after_training(first, second):
                _, blob = finished(recipe, weights)
                assert np.isfinite(scored(recipe, unpack(blob))[:32]).all()
        except Exception as error:  # every failing pair is listed, not the first
            failures.append(f"{first} + {second}: {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)


def meets_after_training(first: Technique, second: Technique) -> bool:
    """Whether both act after training, or one runs the trained model once more for what it needs to know."""
    later = [t for t in (first, second) if t.stage() not in TRAINED_STAGES]
    return len(later) == 2 or any(t.slot in ("adapt", "rounding") for t in later)


def pair(first: Technique, second: Technique) -> Recipe | None:
    """Both on the base, three steps long; None where they share a slot that holds one, or refuse each other."""
    if first.slot == second.slot and not SLOTS[first.slot].many:
        return None
    try:
        recipe = recipe_with(second, recipe_with(first)).with_(tokens=3 * 64)
    except ValueError:
        return None
    here = {t.name for slot in SLOTS for t in recipe.tenants(slot)}
    return recipe if {first.name, second.name} <= here else None


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
