"""Will it fit? The model's forecast of bytes, taught by finished trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from model.calibration import Calibration
from model.forecast import forecast, inventory, raw_forecast, scheme
from model.recipe import Recipe
from model.record import Record
from model.script import code_bytes
from search.proposal import COVERAGE


@dataclass
class Forecaster:
    """Forecasts bytes before training; `learn` corrects it per scheme with every finished trial.

    Attributes:
        calibration: what finished trials taught.
    """

    calibration: Calibration = field(default_factory=Calibration)

    def __call__(self, recipe: Recipe) -> dict[str, float]:
        """Low, mid and high bytes, code included."""
        return dict(forecast(inventory(recipe), recipe, code_bytes(recipe), self.calibration, COVERAGE).to_json())

    def learn(self, record: Record) -> None:
        """Take in a trial whose bytes were measured."""
        if record.bytes and record.code_bytes:
            recipe = Recipe.from_json(record.spec)
            self.calibration.learn(scheme(recipe), raw_forecast(inventory(recipe), recipe), record.bytes - record.code_bytes)

    def to_json(self) -> dict[str, Any]:
        """The calibration, for a worker."""
        return self.calibration.to_json()
