"""Gated attention: each head's output is scaled by a gate."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from golflab.model.network.layers import Scale
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


class InputGate(nn.Module):
    """σ(W h + c) per head, from the block's normalised input."""

    def __init__(self, heads: int, width: int, bias: float) -> None:
        super().__init__()
        self.weight = Scale((heads, width), 0.0)
        self.bias = Scale((heads,), bias)

    def forward(self, y: Tensor, h: Tensor) -> Tensor:
        """y (B,T,H,d), h (B,T,D) -> y."""
        gate = F.linear(h, self.weight(h.dtype), self.bias(h.dtype)).sigmoid()
        return y * gate.unsqueeze(-1)


class StaticGate(nn.Module):
    """One learned gain per head."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.weight = Scale((heads,), 1.0)

    def forward(self, y: Tensor, h: Tensor) -> Tensor:
        """y (B,T,H,d), h unused -> y."""
        return y * self.weight(y.dtype).unsqueeze(-1)


@dataclass(frozen=True)
class GatedAttention(Technique):
    """Scales every head's output before the output matrix, by a gate computed from the input or by a learned gain.

    ``input``: y_h ← σ(W h + c)_h·y_h, W (H,D) starting at zero, c (H,) at ``bias`` (σ(4) ≈ 0.98). ``static``: y_h ← g_h·y_h,
    g (H,) starting at one. The output matrix could absorb g, so g only changes how fast it is learned. It acts after XSA.
    """

    slot = "head_gate"
    sources = ("PR #413", "PR #680", "PR #849")
    doubt = "No gain where XSA is on in all layers (#609: +0.0011 bpb)."

    form: str = knob("input", choices=("input", "static"))
    bias: float = knob(4.0, -2.0, 8.0)

    def build(self, shape: Shape, layer: int | None = None) -> InputGate | StaticGate:
        """The gate of one layer: y (B,T,H,d), h (B,T,D) -> y."""
        return InputGate(shape.heads, shape.width, self.bias) if self.form == "input" else StaticGate(shape.heads)

    def canonical(self, recipe: Recipe) -> Technique:
        """A static gain has no bias."""
        return self._without("bias") if self.form == "static" else self
