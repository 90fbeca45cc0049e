"""x0 injection: the embedding is added again at the end of every block."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from golflab.model.network.layers import Scale
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


class Inject(nn.Module):
    """The module that `X0Injection` builds."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = Scale((), value)

    def forward(self, x: Tensor, x0: Tensor) -> Tensor:
        """x (B,T,D), x0 (B,T,D) -> x."""
        return x + self.weight(x.dtype) * x0


@dataclass(frozen=True)
class X0Injection(Technique):
    """Adds a learned multiple of the normalised embedding after the MLP of every block.

    x ← x + λ·x0, λ one number per block from ``value``. #849 calls it value residual, but it touches no values.
    """

    slot = "leave"
    sources = ("PR #849",)
    doubt = "The residual mixing of the next block can compute the same; only the learning rate differs."

    value: float = knob(0.0, -1.0, 1.0)

    def build(self, shape: Shape, layer: int | None = None) -> Inject:
        """The injection of one block: x, x0 (B,T,D) -> x."""
        return Inject(self.value)
