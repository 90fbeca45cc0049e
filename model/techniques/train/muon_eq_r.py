"""MuonEq-R: Muon whose update has rows of equal length before it is orthogonalised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob
from golflab.model.training.optimizers import Muon as MuonUpdate


def equal_rows(update: Tensor) -> Tensor:
    """Divide each row of (…, rows, columns) by its length."""
    return update / (update.norm(dim=-1, keepdim=True) + 1e-7)


@dataclass(frozen=True)
class MuonEqR(Technique):
    """Divides each row of Muon's momentum by its length before Newton–Schulz.

    U_r ← U_r/(‖U_r‖ + 1e-7), everything else as in `muon`.
    """

    slot = "matrix_update"
    sources = ("PR #1260", "PR #1499")
    doubt = "About −0.001 bpb in one comparison (#1260)."

    lr: float = knob(0.04, 0.002, 0.2, log=True)
    momentum: float = knob(0.95, 0.5, 0.999)
    momentum_start: float = knob(0.85, 0.5, 0.999)
    momentum_warmup: float = knob(0.04, 0.0, 1.0)
    weight_decay: float = knob(0.0, 0.0, 0.3)
    steps: int = knob(5, 1, 12)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[list[tuple[str, nn.Parameter]]], MuonUpdate]:
        """The optimiser of the named matrices."""
        momentum = (self.momentum_start, self.momentum, self.momentum_warmup)
        return lambda named: MuonUpdate(named, self.lr, momentum, self.weight_decay, self.steps, equal_rows)

    def canonical(self, recipe: Recipe) -> Technique:
        """A warm-up of no length begins at its end; one from where it ends has no length."""
        if self.momentum_start == self.momentum:
            return self._without("momentum_start", "momentum_warmup")._with(momentum_start=self.momentum)
        return self._without("momentum_start") if self.momentum_warmup == 0 else self
