"""Warmdown: the learning rate falls linearly over the last part of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class Warmdown(Technique):
    """Holds the learning rate, then lowers it linearly towards zero over the last ``fraction`` of the run.

    multiplier = min(1, max(floor, (1 − progress)/fraction)), one for all groups. Progress is by step or by the training clock,
    whichever bound is nearer, so that ``fraction`` means the same in every run. A fraction above 1 starts below full rate, as
    #1499 does. #1855 stops at a ``floor`` of 0.1.
    """

    slot = "schedule"
    sources = ("baseline", "PR #849", "PR #1125", "PR #1174", "PR #1787")

    fraction: float = knob(0.5, 0.02, 1.5)
    floor: float = knob(0.0, 0.0, 0.9, later=True)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[float], float]:
        """Progress in [0, 1] -> multiplier in [0, 1]."""
        return lambda progress: max(self.floor, min(1.0, (1.0 - progress) / self.fraction))
