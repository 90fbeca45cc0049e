"""A bit width for every role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from model.layers import ParameterInfo
from model.quantize import Grid, grid_by_role
from model.recipe import Shape
from model.technique import Technique, knob

WIDTHS = (16, 8, 7, 6, 5, 4, 3, 2)


@dataclass(frozen=True)
class MixedRows(Technique):
    """Store every role on its own number of bits, integers per output row with fp16 scales.

    w ≈ q·s with q in ±(2^(bits−1) − 1); 16 is fp16, 2 is ternary with the row's mean |w| as scale. The defaults are
    #295's: int5 MLP, int6 attention and bigram, fp16 table. ``extended`` also allows the code −2^(bits−1), as #295's
    export does; matrices of at most ``small`` elements stay fp16 (65,536 or 8,192 in the entries).
    """

    slot: ClassVar[str] = "bits"
    sources: ClassVar[tuple[str, ...]] = ("#295", "#1499", "#180", "#670")

    mlp: int = knob(5, choices=WIDTHS)
    attention: int = knob(6, choices=WIDTHS)
    table: int = knob(16, choices=WIDTHS)
    bigram: int = knob(6, choices=WIDTHS)
    value: int = knob(6, choices=WIDTHS)
    head: int = knob(8, choices=WIDTHS)
    extended: bool = knob(False, choices=(False, True))
    small: int = knob(0, 0, 65_536)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[ParameterInfo], Grid | None]:
        """Return parameter -> grid."""
        bits = {role: getattr(self, role) for role in ("mlp", "attention", "table", "bigram", "value", "head")}
        bits["other"] = self.attention
        return lambda info: grid_by_role(info, bits, self.small, self.extended)
