"""U-Net skips: the second half of the layers gets the outputs of the first half, the last one first."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golflab.model.network.layers import Scale
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


class Skips(nn.Module):
    """The module that `UNetSkips` builds."""

    def __init__(self, layers: int, width: int, gated: bool) -> None:
        super().__init__()
        self.weight = Scale((layers // 2, width), 1.0)
        self.gate = Scale((layers // 2, width), 0.0) if gated else None

    def forward(self, x: Tensor, outputs: list[Tensor], step: int, span: int) -> Tensor:
        """x (B,T,D) before step ``step``, the outputs of the steps before it, the steps that skips span -> x."""
        down = span // 2  # steps of the encoder half
        up = step - down
        if not 0 <= up < down:
            return x
        skip = self.weight(x.dtype)[up] * outputs[down - 1 - up]
        if self.gate is None:
            return x + skip
        return torch.lerp(skip, x, self.gate(torch.float32)[up].sigmoid().to(x.dtype).expand_as(x))


@dataclass(frozen=True)
class UNetSkips(Technique):
    """Adds the encoder half's outputs to the decoder half's inputs, with a learned weight per channel.

    With e = ⌊L/2⌋: before layer e+j, x ← x + w_j ⊙ output_{e−1−j}, w (min(e, L−e), D) starting at one. The first such
    layer gets its own input again (doubled at the start); with an odd number of layers the last one gets nothing. ``gated``:
    x ← (1−σ(γ))⊙(w⊙skip) + σ(γ)⊙x, γ (D,) from zero (#1394). Under depth recurrence the halves are those of the list of steps.
    """

    slot = "skips"
    sources = ("baseline", "PR #211", "PR #849", "PR #295", "PR #1394", "arXiv 1505.04597")

    gated: bool = knob(False, choices=(False, True))

    def build(self, shape: Shape, layer: int | None = None) -> Skips | None:
        """The skips: x, earlier outputs, step, span -> x. One layer has nothing to skip."""
        return Skips(shape.layers, shape.width, self.gated) if shape.layers > 1 else None

    def canonical(self, recipe: Recipe) -> Technique:
        """One layer has nothing to skip, and so nothing to gate."""
        steps = recipe.shape.layers if recipe.technique_in("path") is None else 2
        return self._without("gated") if steps < 2 else self
