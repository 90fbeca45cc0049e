"""q gain: a learned temperature of the attention logits, one per head."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from golflab.model.network.layers import Scale
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


class Gains(nn.Module):
    """The module that `QGain` builds."""

    def __init__(self, heads: int, value: float) -> None:
        super().__init__()
        self.weight = Scale((heads,), value)

    def forward(self, q: Tensor) -> Tensor:
        """q (B,T,H,d) -> same."""
        return q * self.weight(q.dtype).unsqueeze(-1)


@dataclass(frozen=True)
class QGain(Technique):
    """Multiplies the rotated queries by a learned gain per head.

    q ← g_h·q. With QK-norm the attention logits are at most g·√d.
    """

    slot = "q_gain"
    sources = ("baseline", "PR #1125", "PR #1413")

    value: float = knob(1.5, 0.25, 8.0, log=True)

    def build(self, shape: Shape, layer: int | None = None) -> Gains:
        """The gains of one layer: q (B,T,H,d) -> q."""
        return Gains(shape.heads, self.value)
