"""MuonEq-R: Muon whose update has rows of equal length before it is orthogonalised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from golflab.model.shape import Shape
from golflab.model.training.muon_knobs import MuonKnobs
from golflab.model.training.optimizers import Muon as MuonUpdate


def equal_rows(update: Tensor) -> Tensor:
    """Divide each row of (…, rows, columns) by its length."""
    return update / (update.norm(dim=-1, keepdim=True) + 1e-7)


@dataclass(frozen=True)
class MuonEqR(MuonKnobs):
    """Divides each row of Muon's momentum by its length before Newton–Schulz.

    U_r ← U_r/(‖U_r‖ + 1e-7), everything else, and all knobs, as in `muon`.
    """

    sources = ("PR #1260", "PR #1499")
    doubt = "About −0.001 bpb in one comparison (#1260)."

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[list[tuple[str, nn.Parameter]]], MuonUpdate]:
        """The optimiser of the named matrices."""
        return lambda named: MuonUpdate(named, prepare=equal_rows, **self.update_knobs())
