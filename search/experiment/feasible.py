"""Whether anything can fit the limit at all, asked before an experiment is created; and what is the largest there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.distributions import CategoricalDistribution

from golflab.model.recipe import Recipe
from golflab.search.sampler.fitting import FittingSampler
from golflab.search.sampler.proposal import Forecasts, chance
from golflab.search.sampler.selection import REFUSED
from golflab.spaces.space import Space


def check_space(space: Space, forecaster: Forecasts, seed: int = 0) -> None:
    """Check that some combination of a space may fit its limit. The preset is asked first, and mostly decides.

    Raises:
        ValueError: none was found.
    """
    limit = space.preset.limit
    if chance(forecaster(space.preset), limit) >= REFUSED:
        return
    sampler = FittingSampler(
        space.distributions(),
        overrun=lambda params: forecaster(space.recipe(params))["mid"] / limit,
        chance=lambda params: chance(forecaster(space.recipe(params)), limit),
        canonical=space.canonical,
        key=lambda params: space.recipe(params).hash,
        owners=space.owners,
        defaults=space.params(space.preset),
        seed=seed,
    )
    if sampler.propose([], 0).params is None:
        needs = _needs(space.preset, forecaster)
        raise ValueError(f"limit={limit:,} bytes: no combination of the space {space.name!r} can fit; {needs}")


def check_plan(recipes: Sequence[Recipe], forecaster: Forecasts) -> None:
    """Check that some of a list of recipes may fit its limit.

    Raises:
        ValueError: none can.
    """
    if all(chance(forecaster(recipe), recipe.limit) < REFUSED for recipe in recipes):
        raise ValueError(
            f"limit={recipes[0].limit:,} bytes: none of the {len(recipes)} recipes can fit; {_needs(recipes[0], forecaster)}"
        )


def _needs(recipe: Recipe, forecaster: Forecasts) -> str:
    told = forecaster(recipe)
    return f"{recipe.name or 'the first'} is forecast at {told['low']:,.0f} to {told['high']:,.0f}. Raise --limit."


def largest(space: Space, forecaster: Forecasts) -> dict[str, Any]:
    """The combination of a space that is forecast to be the largest, found one choice after the other; knobs stay."""
    params = space.params(space.preset)
    for name, rule in space.distributions().items():
        if isinstance(rule, CategoricalDistribution) and (name in space.choices or name.startswith("shape.")):
            sizes = {value: forecaster(space.recipe(params | {name: value}))["mid"] for value in rule.choices}
            params[name] = max(sizes, key=lambda value: sizes[value])
    return params
