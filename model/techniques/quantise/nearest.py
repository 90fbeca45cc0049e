"""Plain rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from golflab.model.compression.grid import ToRound
from golflab.model.compression.quantize import nearest
from golflab.model.shape import Shape
from golflab.model.technique import Technique


@dataclass(frozen=True)
class Nearest(Technique):
    """Round every weight to the nearest level.

    q = clamp(round(W/s), lowest, c); without a Hessian the best there is for each weight alone.
    """

    slot: ClassVar[str] = "rounding"
    sources: ClassVar[tuple[str, ...]] = ("openai/parameter-golf baseline",)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[ToRound], Tensor]:
        """Return (matrix to round) -> integers (rows, columns)."""
        return nearest
