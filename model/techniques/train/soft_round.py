"""Soft-round QAT: training with a smooth rounding that becomes hard rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from golflab.model.compression.grid import Grid
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob
from golflab.model.training.fake_quant import FakeQuant


def soft_round(y: Tensor, alpha: Tensor) -> Tensor:
    """⌊y⌋ + ½ + ½·tanh(α·f)/tanh(α/2), f = y − ⌊y⌋ − ½: nearly the identity at α = 1, rounding as α grows."""
    whole = y.detach().floor()
    return whole + 0.5 + 0.5 * torch.tanh(alpha * (y - whole - 0.5)) / torch.tanh(alpha / 2)


class SoftRounding(FakeQuant):
    """`FakeQuant` whose rounding hardens from α = 1 to ``hardest`` as the multiplier falls from the threshold to zero."""

    def __init__(self, threshold: float, hardest: float) -> None:
        super().__init__(self.seen, threshold)
        self.hardest = hardest

    def seen(self, weight: Tensor, grid: Grid, scales: Callable[[Tensor], Tensor]) -> Tensor:
        """The weight the forward pass sees; the scale has a gradient too."""
        # A tensor, not a number: a number would be a constant of the compiled graph and recompile it at every step.
        alpha = 1.0 + (self.hardest - 1.0) * (1.0 - self.multiplier.to(weight.device) / self.threshold).clamp(0.0, 1.0)
        step = scales(weight)[:, None]
        return soft_round(weight / step, alpha).clamp(grid.lowest, grid.largest) * step


@dataclass(frozen=True)
class SoftRound(Technique):
    """Trains with smoothly rounded weights that harden while the learning rate falls from ``threshold`` to zero.

    Ŵ = s·clamp(ρ_α(W/s)), ρ_α(y) = ⌊y⌋ + ½ + ½·tanh(α(y−⌊y⌋−½))/tanh(α/2), α from 1 to ``hardest``. No straight-through
    step: the gradient is that of ρ. Grid and scales are the export's.
    """

    slot = "fake_quant"
    sources = ("PR #849", "PR #589", "arXiv 2006.09952")
    doubt = "In the code of #849 it is off by default; that run used hard rounding. −0.0002 bpb against hard rounding (#670)."
    reads = ("bits", "clip")

    threshold: float = knob(0.5, 0.01, 1.0)
    hardest: float = knob(16.0, 2.0, 64.0, log=True)

    def build(self, shape: Shape, layer: int | None = None) -> SoftRounding:
        """The controller of the rounding."""
        return SoftRounding(self.threshold, self.hardest)
