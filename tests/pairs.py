"""Pairs of techniques, and a few recipes of many techniques in which every pair that can be on together is on at least once.

A training for each of two thousand pairs takes minutes. A fault of a pair shows as well where other techniques are on beside
it, so some dozens of recipes stand for all pairs; `make test-all` trains each pair by itself too.
"""

from __future__ import annotations

import functools
import itertools

from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS
from golflab.model.technique import Technique
from tests.contract_helpers import BATCH, NAMES, default, recipe_with

Pair = frozenset[str]


def alone(first: Technique, second: Technique) -> Recipe | None:
    """Both on the base, three steps long; None where they share a slot that holds one, or refuse each other."""
    if first.slot == second.slot and not SLOTS[first.slot].many:
        return None
    try:
        recipe = recipe_with(second, recipe_with(first)).with_(tokens=3 * BATCH)
    except ValueError:
        return None
    return recipe if {first.name, second.name} <= set(names_in(recipe)) else None


def names_in(recipe: Recipe) -> list[str]:
    """Everything that is on, what fills a slot by default included."""
    return sorted({t.name for t in recipe.all_techniques()})


def pairs_in(recipe: Recipe) -> set[Pair]:
    return {frozenset(pair) for pair in itertools.combinations(names_in(recipe), 2)}


@functools.cache
def all_pairs() -> frozenset[Pair]:
    """Every pair that can be on together."""
    return frozenset(frozenset((a, b)) for a, b in itertools.combinations(NAMES, 2) if alone(default(a), default(b)))


@functools.cache
def design() -> tuple[Recipe, ...]:
    """Recipes that hold every pair between them.

    Greedy: a recipe begins with the first pair that no recipe holds yet and takes in, one by one, the technique that brings
    most new pairs and that nothing in it refuses.
    """
    left, recipes = set(all_pairs()), []
    while left:
        recipe = _filled(min(sorted(pair) for pair in left), left)
        recipes.append(recipe)
        left -= pairs_in(recipe)
    return tuple(recipes)


def _filled(names: list[str], left: set[Pair]) -> Recipe:
    """The pair on the base, and beside it all that goes with it."""
    recipe = alone(*map(default, names))
    assert recipe is not None
    possible = [name for name in NAMES if name not in names]
    while possible:
        possible = [name for name in possible if all(frozenset((name, other)) in all_pairs() for other in names)]
        possible.sort(key=lambda name: -sum(frozenset((name, other)) in left for other in names))
        while possible:
            name = possible.pop(0)
            wider = widened(recipe, default(name), names)
            if wider is not None:
                recipe, names = wider, [*names, name]
                break
    return recipe


def widened(recipe: Recipe, technique: Technique, names: list[str]) -> Recipe | None:
    """The recipe with the technique; None where it is refused or drives out what was chosen."""
    try:
        wider = recipe_with(technique, recipe).with_(tokens=recipe.schedule.tokens)
    except ValueError:
        return None
    return wider if {technique.name, *names} <= set(names_in(wider)) else None
