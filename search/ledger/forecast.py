"""Will it fit? The model's forecast of bytes, taught by finished trials."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import golflab.model.compression.forecast
from golflab.model.compression.calibration import MOST, Calibration
from golflab.model.compression.forecast import forecast, inventory, raw_forecast, scheme
from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.model.submission.script import code_bytes
from golflab.search.sampler.proposal import COVERAGE


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

    remembers = MOST

    def learn(self, record: Record) -> list[Any] | None:
        """Take in a trial whose bytes were measured; return the observation for `recall`, None if it taught nothing."""
        if not record.bytes or not record.code_bytes:
            return None
        recipe = Recipe.from_json(record.spec)
        self.calibration.learn(scheme(recipe), raw_forecast(inventory(recipe), recipe), record.bytes - record.code_bytes)
        return [_code(), *self.calibration.seen[-1]]

    def recall(self, observation: list[Any] | None) -> bool:
        """Take in what `learn` returned to an earlier driver; False if it was made with other code and says nothing now."""
        if not isinstance(observation, list) or len(observation) != 3 or observation[0] != _code():
            return False
        self.calibration.seen.append((str(observation[1]), float(observation[2])))
        return True


class Told(Calibration):
    """The driver's forecast of one recipe, in the place of the runs it was made from: all that a worker needs to repeat it.

    Args:
        recipe: that was forecast.
        told: its ``low``, ``mid`` and ``high`` bytes, code included.
    """

    def __init__(self, recipe: Recipe, told: Mapping[str, float]) -> None:
        super().__init__()
        self._recipe, self._told = recipe, told

    def interval(self, scheme: str, coverage: float = COVERAGE) -> tuple[float, float, float]:
        """What was told, whatever is asked."""
        code, raw = code_bytes(self._recipe), raw_forecast(inventory(self._recipe), self._recipe)
        low, middle, high = ((self._told[end] - code) / raw for end in ("low", "mid", "high"))
        return low, middle, high


@functools.cache
def _code() -> str:
    """Names the code that forecasts: sizes by theory that another version worked out are not compared with this one's."""
    whole = hashlib.sha256()
    for path in [Path(__file__), *sorted(Path(golflab.model.compression.forecast.__file__).parent.rglob("*.py"))]:
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()[:8]
