"""Plain rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from golflab.model.compression.grid import Finer, Grid
from golflab.model.compression.quantize import round_to
from golflab.model.network.layers import ParameterInfo
from golflab.model.shape import Shape
from golflab.model.technique import Technique


@dataclass(frozen=True)
class Nearest(Technique):
    """Round every weight to the nearest level.

    q = clamp(round(W/s), lowest, c); without a Hessian the best there is for each weight alone.
    """

    slot: ClassVar[str] = "rounding"
    sources: ClassVar[tuple[str, ...]] = ("openai/parameter-golf baseline",)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[..., Tensor]:
        """Return (matrix, scales, grid, Hessian, mask to keep, info, finer columns) -> integers, all (rows, columns)."""

        def rounded(
            weight: Tensor,
            scales: Tensor,
            grid: Grid,
            hessian: Tensor | None,
            keep: Tensor | None,
            info: ParameterInfo,
            finer: Sequence[Finer] = (),
        ) -> Tensor:
            integers = round_to(weight, scales, grid, finer)
            return integers if keep is None else integers * keep

        return rounded
