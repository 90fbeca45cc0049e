"""The optimiser with which the records of docs/frontier.md and docs/seeds.md were trained, in November 2026.

The rule of `golflab.spaces.scales.paced` is later and changes more. Scripts that make those pages again keep to this one.
"""

from __future__ import annotations

from golflab.model.recipe import Recipe
from golflab.spaces.scales import LEAST_MOMENTUM


def root_of_steps(recipe: Recipe) -> Recipe:
    """The recipe with momentum in its matrices' optimiser that averages over the square root of its steps at most."""
    update, steps = recipe.technique_in("matrix_update"), recipe.schedule.steps
    momentum = getattr(update, "momentum", None)
    if update is None or momentum is None or steps is None:
        return recipe
    most = max(LEAST_MOMENTUM, round(1 - steps**-0.5, 3))
    if momentum <= most:
        return recipe
    return recipe.with_(update._with(momentum=most, momentum_start=min(getattr(update, "momentum_start", most), most)))
