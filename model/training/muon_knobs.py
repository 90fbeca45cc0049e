"""The knobs that every technique of the Muon family has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from golflab.model.recipe import Recipe
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class MuonKnobs(Technique):
    """Base of the techniques that update matrices by Muon; see `golflab.model.training.optimizers.Muon`.

    The momentum moves from ``momentum_start`` to ``momentum`` over the first ``momentum_warmup`` of the run.
    """

    slot = "matrix_update"

    lr: float = knob(0.04, 0.002, 0.2, log=True)
    momentum: float = knob(0.95, 0.5, 0.999)
    momentum_start: float = knob(0.85, 0.5, 0.999)
    momentum_warmup: float = knob(0.04, 0.0, 1.0)
    weight_decay: float = knob(0.0, 0.0, 0.3)
    steps: int = knob(5, 1, 12)

    def update_knobs(self) -> dict[str, Any]:
        """What `golflab.model.training.optimizers.Muon` is given, by keyword."""
        return {
            "lr": self.lr,
            "momentum": (self.momentum_start, self.momentum, self.momentum_warmup),
            "weight_decay": self.weight_decay,
            "steps": self.steps,
        }

    def canonical(self, recipe: Recipe) -> Technique:
        """Without a warm-up only the last momentum counts; a warm-up between equal values is none."""
        if self.momentum_start == self.momentum:
            return self._without("momentum_start", "momentum_warmup")._with(momentum_start=self.momentum)
        return self._without("momentum_start") if self.momentum_warmup == 0 else self
