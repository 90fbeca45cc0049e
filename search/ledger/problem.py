"""RecipeProblem: a search over recipes. It knows what parameters stand for, which recipes fit, and which share a training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.model.slots import SLOTS
from golflab.model.stages import train_key
from golflab.model.system.machine import Conditions
from golflab.model.technique import find
from golflab.search.sampler.prior import Expected, Row
from golflab.search.sampler.problem import Problem
from golflab.search.sampler.proposal import Forecasts, chance
from golflab.spaces.space import Space


class RecipeProblem(Problem):
    """The problem of a search over recipes: parameters stand for recipes of a space, and a forecaster knows their sizes.

    Two combinations are the same if they have one recipe hash. The chance to fit comes from the forecaster, which learns from
    finished trials. The local search is guided by a forecaster that has learned nothing, so that it is the same after a resume.

    Args:
        recipes: the space; its preset is tried first, and has the byte limit.
        forecaster: forecasts a recipe's bytes, code included.
        starts: recipes to try after the preset, which the space must reach.
    """

    def __init__(self, recipes: Space, forecaster: Forecasts, starts: Iterable[Recipe] = ()) -> None:
        self.recipes, self.forecaster = recipes, forecaster
        self._forecasts: dict[str, dict[str, float]] = {}
        untaught = type(forecaster)()
        super().__init__(
            space=recipes.distributions(),
            owners=recipes.owners,
            defaults=recipes.params(recipes.preset),
            starts=[recipes.params(recipe) for recipe in (recipes.preset, *starts)],
            overrun=lambda params: untaught(recipe := recipes.recipe(params))["mid"] / recipe.limit,
            chance=lambda params: self.chance_that_fits(recipes.recipe(params)),
            key=lambda params: recipes.recipe(params).hash,
            canonical=recipes.canonical,
            training=lambda params: training_key(recipes.recipe(params)),
            after_training=after_training(recipes),
        )

    @property
    def limit(self) -> int:
        """Bytes that an artifact may have, code included."""
        return self.recipes.preset.limit

    def forecast(self, recipe: Recipe) -> dict[str, float]:
        """Low, mid and high bytes of a recipe; remembered until the forecaster learns something."""
        if recipe.hash not in self._forecasts:
            self._forecasts[recipe.hash] = self.forecaster(recipe)
        return self._forecasts[recipe.hash]

    def chance_that_fits(self, recipe: Recipe) -> float:
        """Probability that a recipe fits its limit, by its forecast."""
        return chance(self.forecast(recipe), recipe.limit)

    def learn(self, record: Record) -> Any:
        """Correct the forecasts by a finished trial; return what `Forecasts.recall` takes instead of the record."""
        self._forecasts.clear()
        return self.forecaster.learn(record)

    def recall(self, observation: Any) -> bool:
        """Give the forecaster what `learn` returned to an earlier driver; return whether it could use it."""
        self._forecasts.clear()
        recall = getattr(self.forecaster, "recall", None)
        return recall is not None and bool(recall(observation))


def described(space: Space, recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """A recipe's parameters and their distributions, from which the sampler learns; two empty ones if the space lacks it.

    The seed is left out of the comparison: a design has seeds that the space does not, and a score is a score.
    """
    params = space.params(recipe)
    reached = space.recipe(params).with_(seed=recipe.seed).hash == recipe.hash
    return (params, space.distributions()) if reached else ({}, {})


def within(prior: Sequence[Row], space: Space) -> tuple[Row, ...]:
    """The expected effects of techniques that a space may switch.

    Raises:
        ValueError: a technique that the catalogue lacks, or one given twice; or the space varies none of them.
    """
    names = [find(name).name for name, _, _ in prior]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"prior: {min(twice)!r} is given twice; give one mean and one standard deviation.")
    varied = {name for rivals in space.choices.values() for name in rivals}
    found = tuple((name, mean, sd) for name, (_, mean, sd) in zip(names, prior, strict=True) if name in varied)
    if prior and not found:
        raise ValueError(
            f"prior: nothing is expected of any technique that the space {space.name!r} varies; leave --prior out, or choose "
            "another --space."
        )
    return found


def expected(prior: Sequence[Row], space: Space) -> list[Expected]:
    """The expected effects of techniques, by the parameters of a space that switch them on."""
    told = {name: (mean, sd) for name, mean, sd in prior}
    return [
        Expected(parameter, True if rivals == (parameter,) else name, *told[name])
        for parameter, rivals in space.choices.items()
        for name in rivals
        if name in told
    ]


def training_key(recipe: Recipe) -> str:
    """Names the training a recipe needs: recipes that share it train once, on one kind of machine."""
    return train_key(recipe, f"{recipe.data.corpus} {recipe.data.tokenizer}", Conditions("cpu", "float32"))


def after_training(space: Space) -> list[str]:
    """Parameters of a space that act after training and cost seconds: averages, quantisers, packers, evaluators.

    Two kinds are left out. Training at test time acts after training, but may cost as much. The knobs of a weight average need
    another training: a training keeps the averages of its own knobs only.
    """
    choices = [name for name, alternatives in space.choices.items() if all(_cheap(name) for name in alternatives)]
    return [*choices, *(knob for knob in space.distributions() if "." in knob and _knob_is_cheap(knob))]


def _cheap(technique: str) -> bool:
    slot = SLOTS[find(technique).slot]
    return slot.name == "average" or (
        slot.stage in ("quantise", "pack", "evaluate") and slot.name not in ("adapt", "adapt_all")
    )


def _knob_is_cheap(parameter: str) -> bool:
    owner = parameter.partition(".")[0]
    return owner != "shape" and _cheap(owner) and find(owner).slot != "average"
