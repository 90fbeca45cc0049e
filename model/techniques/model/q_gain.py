"""q gain: a learned temperature of the attention logits, one per head."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor, nn

from golflab.model.network.layers import Scale
from golflab.model.recipe import Recipe
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

    q ← g_h·q. With QK-norm the attention logits are at most g·√d. In layer l of L the gains start at
    ``value`` + ``slope``·min(l, L−l): with 2 and ½ that is 2.0, 2.5 … 4.5, 4.5 … 2.5 over eleven layers (#2130).
    """

    slot = "q_gain"
    sources = ("baseline", "PR #1125", "PR #1413", "PR #2130")
    doubt = "5.0 to 5.25: −0.0002 bpb in one seed; gains by layer were never measured alone."

    value: float = knob(1.5, 0.25, 8.0, log=True)
    slope: float = knob(0.0, 0.0, 2.0, later=True)

    def build(self, shape: Shape, layer: int | None = None) -> Gains:
        """The gains of one layer: q (B,T,H,d) -> q."""
        assert layer is not None
        return Gains(shape.heads, self.value + self.slope * min(layer, shape.layers - layer))

    def canonical(self, recipe: Recipe) -> Technique:
        """One layer has no slope."""
        return self._without("slope") if recipe.shape.layers == 1 else self

    def rescale(self, old: Shape, new: Shape) -> QGain:
        """The same gain in the middle of the stack."""
        return dataclasses.replace(self, slope=min(2.0, self.slope * max(1, old.layers // 2) / max(1, new.layers // 2)))
