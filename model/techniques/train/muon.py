"""Muon: orthogonalised momentum for matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob
from golflab.model.training.optimizers import Muon as MuonUpdate


@dataclass(frozen=True)
class Muon(Technique):
    """Updates every matrix by its momentum with all singular values set to about one.

    buf ← μ·buf + G; U = G + μ·buf; W ← W·(1 − lr·wd) − lr·√max(1, rows/columns)·NewtonSchulz(U), with the scheduled lr. μ moves
    from ``momentum_start`` to ``momentum`` over the first ``momentum_warmup`` of the run.
    """

    slot = "matrix_update"
    sources = ("Jordan et al. 2024", "baseline", "PR #2009")

    lr: float = knob(0.04, 0.002, 0.2, log=True)
    momentum: float = knob(0.95, 0.5, 0.999)
    momentum_start: float = knob(0.85, 0.5, 0.999)
    momentum_warmup: float = knob(0.04, 0.0, 1.0)
    weight_decay: float = knob(0.0, 0.0, 0.3)
    steps: int = knob(5, 1, 12)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[list[tuple[str, nn.Parameter]]], MuonUpdate]:
        """The optimiser of the named matrices."""
        momentum = (self.momentum_start, self.momentum, self.momentum_warmup)
        return lambda named: MuonUpdate(named, self.lr, momentum, self.weight_decay, self.steps)

    def canonical(self, recipe: Recipe) -> Technique:
        """A warm-up of no length begins at its end; one from where it ends has no length."""
        if self.momentum_start == self.momentum:
            return self._without("momentum_start", "momentum_warmup")._with(momentum_start=self.momentum)
        return self._without("momentum_start") if self.momentum_warmup == 0 else self
