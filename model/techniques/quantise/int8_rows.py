"""int8 per output row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from golflab.model.compression.grid import Grid, Rows, grid_by_role
from golflab.model.network.layers import ParameterInfo
from golflab.model.shape import Shape
from golflab.model.technique import knob


@dataclass(frozen=True)
class Int8Rows(Rows):
    """Store matrices as integers of ±127 times one fp16 scale per output row.

    w ≈ q·s with q in [−127, 127] and s (rows,) from the slot `clip`. ``table`` is the width of the token, value and
    bigram tables and of an untied head (16 keeps them in fp16, as #295 and #1499 do); matrices of at most ``small``
    elements stay fp16 (65,536 in the baseline). Published cost of the rounding: 0.002 to 0.007 bits per byte.
    """

    sources: ClassVar[tuple[str, ...]] = ("#2000", "openai/parameter-golf baseline")

    table: int = knob(8, choices=(16, 8, 7, 6, 5, 4))
    small: int = knob(0, 0, 65_536)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[ParameterInfo], Grid | None]:
        """Return parameter -> grid."""
        bits = {"table": self.table, "head": self.table, "bigram": self.table, "value": self.table, "other": 8}
        return lambda info: grid_by_role(info, bits, self.small)
