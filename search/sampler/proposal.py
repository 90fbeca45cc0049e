"""A proposal to run next, and the interface of what forecasts its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Protocol

from golflab.model.recipe import Recipe
from golflab.model.record import Record

COVERAGE = 0.9  # probability that the true size lies in a forecast's interval


@dataclass(frozen=True)
class Proposal:
    """A trial to run next: its number in the study, its recipe, and its forecast bytes (``low``, ``mid``, ``high``)."""

    number: int
    recipe: Recipe
    forecast: dict[str, float]


class Forecasts(Protocol):
    """Interface of a forecaster of bytes; `golflab.search.ledger.forecast.Forecaster` is one.

    Two members are optional: ``remembers``, the number of latest trials that it uses, and ``recall(observation)``, which gets
    what `learn` returned to an earlier driver and returns whether it could use it. Without them, a resume calls `learn` for
    every record again.
    """

    def __call__(self, recipe: Recipe) -> dict[str, float]:
        """Low, mid and high bytes; the true size lies between low and high with probability `COVERAGE`."""

    def learn(self, record: Record) -> Any:
        """Learn from a finished trial; return JSON values for `recall`, or None."""


def chance(forecast: Mapping[str, float], limit: float) -> float:
    """Probability that a recipe fits a limit, from its forecast ``low``, ``mid`` and ``high`` bytes (a normal distribution)."""
    deviation = (forecast["high"] - forecast["low"]) / (2 * NormalDist().inv_cdf((1 + COVERAGE) / 2))
    return NormalDist(forecast["mid"], max(deviation, 1.0)).cdf(limit)
