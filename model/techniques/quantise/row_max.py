"""Scales from the largest weight of a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from golflab.model.compression.entropy import floor_reach, trained_reach
from golflab.model.network.layers import ParameterInfo
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class RowMax(Technique):
    """Scale every row so that its largest weight is the largest level: nothing is clipped.

    s_r = max|W_r| / c. ``floor`` reproduces max(s, 1/c) of many entries: unless a row's largest weight exceeds 1, the
    step is then 1/c for every row, which destroys the weights of short runs.
    """

    slot: ClassVar[str] = "clip"
    sources: ClassVar[tuple[str, ...]] = ("#295", "openai/parameter-golf baseline")

    floor: bool = knob(False, choices=(False, True), faults=(True,))

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Tensor, int, ParameterInfo], Tensor]:
        """Return (matrix (rows, columns), largest level c, info) -> scales (rows,)."""

        def scales(weight: Tensor, largest: int, info: ParameterInfo) -> Tensor:
            steps = weight.abs().amax(dim=1) / largest
            return steps.clamp_min(1 / largest) if self.floor else steps

        return scales

    def reach(self, columns: int, largest: int, info: ParameterInfo) -> float:
        """Largest level times step over the deviation of a row: the forecast uses it."""
        reach = trained_reach(columns, info.role)
        return max(reach, floor_reach(columns)) if self.floor else reach
