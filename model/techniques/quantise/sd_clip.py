"""Scales proportional to the row's standard deviation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from golflab.model.compression.grid import stored_roles
from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class SdClip(Technique):
    """Scale every row by its standard deviation, so that one number sets the rate of the whole model (SDClip).

    s_r = k·std(W_r)/c: the step over the deviation is k/c for every row, hence about log2(4.13·c/k) bits a weight. At the
    published 12.85 (matrices at c = 31) and 20 (table at c = 127) it never clips. #1499 also used 12.85 with c = 15, a step of
    0.86 σ that loses 6 % of the energy. ``k`` is for matrices, ``table`` for tables and heads.
    """

    slot: ClassVar[str] = "clip"
    sources: ClassVar[tuple[str, ...]] = ("#1394", "#1499")

    k: float = knob(12.85, 2.0, 30.0, log=True)
    table: float = knob(20.0, 2.0, 40.0, log=True)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Tensor, int, ParameterInfo], Tensor]:
        """Return (matrix (rows, columns), largest level c, info) -> scales (rows,)."""
        return lambda weight, largest, info: (
            weight.std(dim=1, correction=0) * self.reach(weight.shape[1], largest, info) / largest
        )

    def reach(self, columns: int, largest: int, info: ParameterInfo) -> float:
        """Largest level times step over the deviation of the row, k: the forecast uses it."""
        return self.table if info.kind == "table" or info.role == "head" else self.k

    def canonical(self, recipe: Recipe) -> Technique:
        """``table`` is for tables and heads on a grid."""
        stored = stored_roles(recipe) if self.table != type(self).table else None
        unread = stored is not None and not any(kind == "table" or role == "head" for kind, role in stored)
        return self._without("table") if unread else self
