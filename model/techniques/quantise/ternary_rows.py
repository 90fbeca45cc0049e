"""Ternary MLP weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from golflab.model.compression.grid import Grid, Rows, grid_by_role
from golflab.model.network.layers import ParameterInfo
from golflab.model.shape import Shape
from golflab.model.technique import knob


@dataclass(frozen=True)
class TernaryRows(Rows):
    """Store the MLP's matrices as −1, 0 and 1 times the row's mean |w|, everything else on more bits.

    w ≈ α·t with α = mean|w| per row and t = clamp(round(w/α), −1, 1): 1.58 bits a weight for Gaussian latents, 31 % of
    them zero, a quarter of the weight energy lost. Only weights trained through the same rounding survive it: switch on
    ternary fake quantisation too. ``attention`` = 2 makes the attention ternary as well (#640).
    """

    sources: ClassVar[tuple[str, ...]] = ("#211", "#640", "#367", "arXiv:2402.17764")
    doubt: ClassVar[str] = "No score of the ternary network of #211 has been published; its log is of an int8 model."

    attention: int = knob(8, choices=(16, 8, 7, 6, 5, 4, 2))
    table: int = knob(16, choices=(16, 8, 7, 6, 5, 4))
    small: int = knob(0, 0, 65_536)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[ParameterInfo], Grid | None]:
        """Return parameter -> grid."""
        tables = dict.fromkeys(("table", "head", "bigram", "value"), self.table)
        bits = tables | {"mlp": 2, "attention": self.attention, "other": self.attention}
        return lambda info: grid_by_role(info, bits, self.small)
