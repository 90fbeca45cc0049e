"""U-Net skips: the second half of the layers takes in the outputs of the first, last in, first out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from model.layers import Scale
from model.recipe import Shape
from model.technique import Technique


class Skips(nn.Module):
    """The module that `UNetSkips` builds."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.down = layers // 2  # layers of the encoder half
        self.weight = Scale((min(self.down, layers - self.down), width), 1.0)

    def forward(self, x: Tensor, outputs: list[Tensor], step: int) -> Tensor:
        """x (B,T,D) before step ``step``, the outputs of the steps before it -> x."""
        up = step - self.down
        if not 0 <= up < self.weight.weight.size(0):
            return x
        return x + self.weight(x.dtype)[up] * outputs[self.down - 1 - up]


@dataclass(frozen=True)
class UNetSkips(Technique):
    """Adds the encoder half's outputs to the decoder half's inputs, with a learned weight per channel.

    With e = ⌊L/2⌋: before layer e+j, x ← x + w_j ⊙ output_{e−1−j}, w (min(e, L−e), D) starting at one. The first such
    layer gets its own input again (doubled at the start); with an odd number of layers the last one gets nothing.
    """

    slot = "skips"
    sources = ("baseline", "PR #211", "PR #849", "PR #295", "arXiv 1505.04597")

    def build(self, shape: Shape, layer: int | None = None) -> Skips | None:
        """The skips: x, earlier outputs, step -> x. One layer has nothing to skip."""
        return Skips(shape.layers, shape.width) if shape.layers > 1 else None
