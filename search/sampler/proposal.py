"""What is to be run next, and what says whether it will fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Protocol

from golflab.model.recipe import Recipe
from golflab.model.record import Record

COVERAGE = 0.9  # of a forecast's interval


@dataclass(frozen=True)
class Proposal:
    """What is to be run next: the study's number for it, the recipe, and the bytes it is forecast to need."""

    number: int
    recipe: Recipe
    forecast: dict[str, float]


class Forecasts(Protocol):
    """What says whether a recipe will fit; `golflab.search.ledger.forecast.Forecaster` is one.

    It may also have ``remembers``, the number of latest trials that it uses, and ``recall(told)``, which takes what `learn`
    returned to an earlier driver and says whether it could use it: without them, a resume teaches it every record again.
    """

    def __call__(self, recipe: Recipe) -> dict[str, float]:
        """Low, mid and high bytes; the truth lies between the ends with probability `COVERAGE`."""

    def learn(self, record: Record) -> Any:
        """Take in a finished trial; return what `recall` takes instead of it, as JSON values, or None."""


def chance(told: Mapping[str, float], limit: float) -> float:
    """Probability that what is forecast at ``low``, ``mid`` and ``high`` bytes fits a limit."""
    deviation = (told["high"] - told["low"]) / (2 * NormalDist().inv_cdf((1 + COVERAGE) / 2))
    return NormalDist(told["mid"], max(deviation, 1.0)).cdf(limit)
