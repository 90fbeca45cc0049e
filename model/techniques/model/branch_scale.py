"""Branch scale: a learned gain per channel on what attention and the MLP add to the stream."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from golflab.model.network.layers import Scale
from golflab.model.shape import Shape
from golflab.model.technique import Technique


class Gain(nn.Module):
    """The module that `BranchScale` builds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = Scale((width,), 1.0)

    def forward(self, y: Tensor) -> Tensor:
        """A branch's output (B,T,D) -> same."""
        return y * self.weight(y.dtype)


@dataclass(frozen=True)
class BranchScale(Technique):
    """Multiplies each branch's output by a learned gain per channel before it is added.

    x ← x + a⊙attention(·), x ← x + b⊙mlp(·); a, b (D,) per block, starting at one ("attn_scale" and "mlp_scale").
    """

    slot = "branch_scale"
    sources = ("baseline",)

    def build(self, shape: Shape, layer: int | None = None) -> Gain:
        """One branch's gain: (B,T,D) -> (B,T,D)."""
        return Gain(shape.width)
