"""LeakyReLU²: squared hidden units that keep a share of the negative side."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from golflab.model.network.kernels import leaky_square
from golflab.model.network.layers import Scale
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


class Activation(nn.Module):
    """The module that `LeakyReluSquared` builds."""

    def __init__(self, slope: float, hidden: int | None) -> None:
        super().__init__()
        self.slope = slope
        self.gain = None if hidden is None else Scale((hidden,), 1.0)

    def forward(self, u: Tensor) -> Tensor:
        """(B,T,F) -> (B,T,F)."""
        y = leaky_square(u, self.slope)
        return y if self.gain is None else y * self.gain(y.dtype)


@dataclass(frozen=True)
class LeakyReluSquared(Technique):
    """Squares hidden units after scaling the negative ones by ``slope``: (u or slope·u)².

    The derivative is 2u above zero and 2·slope²·u below: slope 0 is relu², slope 1 is u². ``hidden_gain`` multiplies the
    squared units by a learned gain (F,) starting at one (#1499).
    """

    slot = "activation"
    sources = ("PR #493", "PR #549", "PR #849", "PR #680", "PR #1499")
    doubt = (
        "Slope 0.5 against relu²: −0.0015 to −0.009 bpb. The best slope depends on the other techniques (0.9: −0.013 to "
        "+0.005)."
    )

    slope: float = knob(0.5, 0.0, 1.0)
    hidden_gain: bool = knob(False, choices=(False, True))

    def build(self, shape: Shape, layer: int | None = None) -> Activation:
        """The activation: (B,T,F) -> (B,T,F)."""
        return Activation(self.slope, shape.hidden if self.hidden_gain else None)
