"""Scales by searching percentiles of |w|: GPTQ-lite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golflab.model.compression.entropy import floor_reach, mse_reach, trained_reach
from golflab.model.compression.quantize import largest_quantiles, rounding_error
from golflab.model.network.layers import ParameterInfo
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

QUANTILES = (0.999, 0.9995, 0.9999, 0.99999, 1.0)
DEEP = (0.98, 0.985, 0.99, 0.995)


@dataclass(frozen=True)
class Percentile(Technique):
    """Scale rows by the percentile of |w| whose rounding loses least energy (GPTQ-lite).

    For p in 0.999 … 1: clip = p-quantile of |W_r|, s = clip/c; the p of least Σ(W − Q)² wins, per row, or for the whole
    matrix (``per="matrix"``, #549). At up to 2048 columns these candidates nearly coincide with the row's maximum;
    ``deep`` adds 0.98 … 0.995, which really clip. ``floor`` reproduces max(s, 1/c) of many entries and what it breaks.
    """

    slot: ClassVar[str] = "clip"
    sources: ClassVar[tuple[str, ...]] = ("#414", "#549", "#680", "#849")

    per: str = knob("row", choices=("row", "matrix"))
    deep: bool = knob(False, choices=(False, True))
    floor: bool = knob(False, choices=(False, True), faults=(True,))

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Tensor, int, ParameterInfo], Tensor]:
        """Return (matrix (rows, columns), largest level c, info) -> scales (rows,)."""
        quantiles = QUANTILES + DEEP if self.deep else QUANTILES

        def scales(weight: Tensor, largest: int, info: ParameterInfo) -> Tensor:
            clips = largest_quantiles(weight.abs(), quantiles)
            best, least = torch.zeros_like(weight[:, 0]), torch.full_like(weight[:, 0], torch.inf)
            for clip in clips:
                steps = (clip / largest).clamp_min(1 / largest if self.floor else 1e-12)
                loss = rounding_error(weight, steps, largest)
                if self.per == "matrix":
                    loss = loss.sum().expand_as(loss)
                better = loss < least
                best, least = torch.where(better, steps, best), torch.where(better, loss, least)
            return best

        return scales

    def reach(self, columns: int, largest: int, info: ParameterInfo) -> float:
        """Largest level times step over the deviation of a row: the forecast uses it."""
        shortened = trained_reach(columns, info.role) * (1 - 0.025 * (largest <= 15))
        reach = min(shortened, mse_reach(largest)) if self.deep else shortened
        return max(reach, floor_reach(columns)) if self.floor else reach
