"""Will it fit? The model's forecast of bytes, cheap enough to be asked hundreds of times, taught by finished trials."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from model.calibration import Calibration
from model.forecast import forecast, inventory, raw_forecast, scheme
from model.recipe import Recipe
from model.record import Record
from model.script import script
from model.technique import find


@dataclass
class Forecaster:
    """Forecasts bytes before training; `learn` corrects it per scheme with every finished trial.

    Attributes:
        calibration: what finished trials taught.
    """

    calibration: Calibration = field(default_factory=Calibration)

    def __call__(self, recipe: Recipe, exact: bool = False) -> dict[str, float]:
        """Low, mid and high bytes, code included.

        Args:
            recipe: not trained yet.
            exact: build the script to know the code's length; otherwise it is estimated to a few hundred bytes, from
                what each technique adds to it, since compressing it takes most of a forecast's time.
        """
        code = len(script(recipe)) if exact else _code_bytes(recipe)
        return dict(forecast(inventory(recipe), recipe, code, self.calibration).to_json())

    def learn(self, record: Record) -> None:
        """Take in a trial whose bytes were measured."""
        if record.state == "complete" and record.bytes and record.code_bytes:
            recipe = Recipe.from_json(record.spec)
            self.calibration.learn(scheme(recipe), raw_forecast(inventory(recipe), recipe), record.bytes - record.code_bytes)

    def to_json(self) -> dict[str, Any]:
        """The calibration, for a worker."""
        return self.calibration.to_json()


def _code_bytes(recipe: Recipe) -> int:
    bare = _bare(recipe)
    return _length(bare) + sum([_added(t.name, bare) for t in recipe.techniques])


def _bare(recipe: Recipe) -> Recipe:
    """A recipe without techniques; what its script is long does not depend on the rest."""
    return Recipe(name=recipe.name)


@functools.cache
def _length(recipe: Recipe) -> int:
    return len(script(recipe))


@functools.cache
def _added(name: str, bare: Recipe) -> int:
    """Bytes a technique adds to the script of a recipe that has none."""
    return len(script(bare.with_(find(name)()))) - _length(bare)
