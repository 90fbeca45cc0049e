"""Residual mixing: the input of every block is a blend of the residual stream and the embedding."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from golflab.model.network.layers import Scale
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


class Mix(nn.Module):
    """The module that `ResidMix` builds: rows of ``weight`` (2,D) multiply the stream and the embedding."""

    def __init__(self, width: int, stream: float) -> None:
        super().__init__()
        self.weight = Scale((2, width), [[stream], [1.0 - stream]])

    def forward(self, x: Tensor, x0: Tensor) -> Tensor:
        """x (B,T,D), x0 (B,T,D) -> x."""
        m = self.weight(x.dtype)
        return m[0] * x + m[1] * x0


@dataclass(frozen=True)
class ResidMix(Technique):
    """Blends the stream with the normalised embedding at the entrance of every block, per channel.

    x ← m0⊙x + m1⊙x0, m (2,D) per block. ``identity`` starts at (1, 0); ``phase`` ("phase-transition residual mixing",
    an initialisation over depth, not a schedule over time) at m0 = σ(3·(l/(L−1) − ½)), m1 = 1 − m0.
    """

    slot = "enter"
    sources = ("baseline", "PR #60", "PR #211", "PR #295")

    start: str = knob("identity", choices=("identity", "phase"))

    def build(self, shape: Shape, layer: int | None = None) -> Mix:
        """The blend of one block: x, x0 (B,T,D) -> x."""
        assert layer is not None
        if self.start == "identity":
            return Mix(shape.width, 1.0)
        depth = layer / max(shape.layers - 1, 1)
        return Mix(shape.width, 1.0 / (1.0 + math.exp(-3.0 * (depth - 0.5))))
