"""The forecast of a recipe's bytes, corrected by finished trials."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from golflab.model.compression.calibration import MOST, Calibration
from golflab.model.compression.forecast import forecast, inventory, raw_forecast, scheme
from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.model.submission.script import code_bytes
from golflab.model.system.sources import ROOT
from golflab.search.sampler.proposal import COVERAGE


@dataclass
class Forecaster:
    """Forecasts bytes before training. Every finished trial corrects the forecasts of its quantisation scheme.

    Attributes:
        calibration: corrections learned from finished trials.
    """

    calibration: Calibration = field(default_factory=Calibration)

    def __call__(self, recipe: Recipe) -> dict[str, float]:
        """Low, mid and high bytes, code included."""
        return dict(forecast(inventory(recipe), recipe, code_bytes(recipe), self.calibration, COVERAGE).to_json())

    remembers = MOST

    def learn(self, record: Record) -> list[Any] | None:
        """Learn from a finished trial; return the observation for `recall`, or None if its bytes were not measured."""
        if not record.bytes or not record.code_bytes:
            return None
        recipe = Recipe.from_json(record.spec)
        self.calibration.learn(scheme(recipe), raw_forecast(inventory(recipe), recipe), record.bytes - record.code_bytes)
        return [_code(), *self.calibration.seen[-1]]

    def recall(self, observation: list[Any] | None) -> bool:
        """Learn from what `learn` returned to an earlier driver; return False if other code made it."""
        if not isinstance(observation, list) or len(observation) != 3 or observation[0] != _code():
            return False
        self.calibration.seen.append((str(observation[1]), float(observation[2])))
        return True


class FixedForecast(Calibration):
    """The driver's forecast of one recipe. A worker uses it in place of the calibration that it was made from.

    Args:
        recipe: that was forecast.
        forecast: its ``low``, ``mid`` and ``high`` bytes, code included.
    """

    def __init__(self, recipe: Recipe, forecast: Mapping[str, float]) -> None:
        super().__init__()
        self._recipe, self._forecast = recipe, forecast

    def interval(self, scheme: str, coverage: float = COVERAGE) -> tuple[float, float, float]:
        """The driver's forecast, divided by the raw one, whatever the scheme and the coverage."""
        code, raw = code_bytes(self._recipe), raw_forecast(inventory(self._recipe), self._recipe)
        low, middle, high = ((self._forecast[end] - code) / raw for end in ("low", "mid", "high"))
        return low, middle, high


def _sources() -> list[Path]:
    """The files that a forecast may depend on: all of the model's code, and this file."""
    return [Path(__file__), *sorted((ROOT / "model").rglob("*.py"))]


@functools.cache
def _code() -> str:
    """A hash of the code that forecasts: observations made with another version are not used."""
    whole = hashlib.sha256()
    for path in _sources():
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()[:8]
