"""int5 per output row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from golflab.model.compression.grid import Grid, Rows, grid_by_role
from golflab.model.network.layers import ParameterInfo
from golflab.model.shape import Shape
from golflab.model.technique import knob


@dataclass(frozen=True)
class Int5Rows(Rows):
    """Store matrices as integers of ±15 times one fp16 scale per output row.

    w ≈ q·s with q in [−15, 15] and s (rows,) from the slot `clip`; tables on ``table`` bits (16 is fp16), matrices of at
    most ``small`` elements in fp16. The published cost is about +0.012 bits per byte before GPTQ. #180 used the
    bytes that it frees for a tenth layer.
    """

    sources: ClassVar[tuple[str, ...]] = ("#849", "#180", "#375")

    table: int = knob(8, choices=(16, 8, 7, 6, 5, 4))
    small: int = knob(0, 0, 65_536)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[ParameterInfo], Grid | None]:
        """Return parameter -> grid."""
        bits = {"table": self.table, "head": self.table, "bigram": self.table, "value": self.table, "other": 5}
        return lambda info: grid_by_role(info, bits, self.small)
