"""Cosine: the learning rate falls along half a cosine over the last part of the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class Cosine(Technique):
    """Holds the learning rate, then lowers it towards zero along half a cosine over the last ``fraction`` of the run.

    multiplier = max(floor, ½(1 + cos(π·u))), one for all groups; u = (progress − (1 − fraction))/fraction once that is
    positive.
    """

    slot = "schedule"
    sources = ("PR #1125", "arXiv 1608.03983")
    doubt = "+0.0039 bpb against the linear warmdown in the one published comparison (#1125)."

    fraction: float = knob(1.0, 0.02, 1.0)
    floor: float = knob(0.0, 0.0, 0.9, later=True)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[float], float]:
        """Progress in [0, 1] -> multiplier in [0, 1]."""

        def multiplier(progress: float) -> float:
            fallen = max(0.0, progress - (1.0 - self.fraction)) / self.fraction
            return max(self.floor, 0.5 * (1.0 + math.cos(math.pi * fallen)))

        return multiplier
