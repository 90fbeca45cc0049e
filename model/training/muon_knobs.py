"""The knobs that every technique of the Muon family has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from golflab.model.recipe import Recipe
from golflab.model.technique import Technique, knob
from golflab.model.training.optimizers import POLYNOMIALS


@dataclass(frozen=True)
class MuonKnobs(Technique):
    """Base of the techniques that update matrices by Muon; see `golflab.model.training.optimizers.Muon`.

    The momentum moves from ``momentum_start`` to ``momentum`` over the first ``momentum_warmup`` of the run. The other
    knobs are explained in `golflab.model.techniques.train.muon`.
    """

    slot = "matrix_update"

    lr: float = knob(0.04, 0.002, 0.2, log=True)
    momentum: float = knob(0.95, 0.5, 0.999)
    momentum_start: float = knob(0.85, 0.5, 0.999)
    momentum_warmup: float = knob(0.04, 0.0, 1.0)
    weight_decay: float = knob(0.0, 0.0, 0.3)
    steps: int = knob(5, 1, 12)
    polynomial: str = knob("fixed", choices=POLYNOMIALS, later=True)
    decay_hold: float = knob(0.7, 0.0, 0.95, later=True)
    decay_end: float = knob(1.0, 0.0, 1.0, later=True)

    def update_knobs(self) -> dict[str, Any]:
        """What `golflab.model.training.optimizers.Muon` is given, by keyword."""
        return {
            "lr": self.lr,
            "momentum": (self.momentum_start, self.momentum, self.momentum_warmup),
            "weight_decay": self.weight_decay,
            "steps": self.steps,
            "polynomial": self.polynomial,
            "taper": (self.decay_hold, self.decay_end),
        }

    def canonical(self, recipe: Recipe) -> Technique:
        """Without a warm-up only the last momentum counts; a warm-up between equal values is none. No decay has no taper."""
        settled = self
        if self.weight_decay == 0:
            settled = settled._without("decay_hold", "decay_end")
        elif self.decay_end == 1:
            settled = settled._without("decay_hold")
        if self.momentum_start == self.momentum:
            return settled._without("momentum_start", "momentum_warmup")._with(momentum_start=self.momentum)
        return settled._without("momentum_start") if self.momentum_warmup == 0 else settled
