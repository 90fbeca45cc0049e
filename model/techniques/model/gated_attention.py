"""Gated attention: each head's output is scaled by a gate."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from golflab.model.network.layers import Scale
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Knob, Technique, knob


class InputGate(nn.Module):
    """gain·σ(scale·W u + c) per head, u the first channels of the block's normalised input.

    Args:
        heads: gates, H.
        channels: of the input that a gate reads, n.
        technique: its other knobs.
    """

    def __init__(self, heads: int, channels: int, technique: GatedAttention) -> None:
        super().__init__()
        self.weight = Scale((heads, channels), 0.0)
        self.bias = Scale((heads,), technique.bias) if technique.learned_bias else None
        self.scale, self.gain, self.fixed = technique.scale, technique.gain, technique.bias

    def forward(self, y: Tensor, h: Tensor) -> Tensor:
        """y (B,T,H,d), h (B,T,D) -> y."""
        weight = self.weight(h.dtype) * self.scale
        u = h[..., : weight.size(1)]
        logits = F.linear(u, weight) + self.fixed if self.bias is None else F.linear(u, weight, self.bias(h.dtype))
        return y * (self.gain * logits.sigmoid()).unsqueeze(-1)


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

    ``input``: y_h ← gain·σ(scale·W u + c)_h·y_h. u is the first ``window`` channels of the block's normalised input (0: all).
    W (H, channels) starts at zero, c (H,) at ``bias`` (σ(4) ≈ 0.98). Without ``learned_bias`` c is the constant ``bias``.
    ``static``: y_h ← g_h·y_h, g (H,) starting at one, which the output matrix could absorb: it only changes how fast it is
    learned. After XSA.

    The records' gates have no learned bias, and ``bias=0``. The attention output gate (#1667) has ``window=12,gain=2`` and
    starts at 1. The narrow or "sparse" gate (#1787) has ``window=12``, the dense one (#1736) ``window=0``; both start at ½.
    #1855 multiplies its narrow gate's logits by ``scale=0.5``.
    """

    slot = "head_gate"
    sources = ("PR #413", "PR #680", "PR #849", "PR #1667", "PR #1736", "PR #1787", "PR #1855")
    doubt = (
        "Adds nothing on top of XSA in all layers (#609: +0.0011). −0.0033 on one GPU (#2095). #1787 found no difference "
        "between the dense and the narrow gate; the records give no number for the gate alone."
    )

    form: str = knob("input", choices=("input", "static"))
    bias: float = knob(4.0, -2.0, 8.0)
    window: int = knob(0, 0, 512, later=True)
    scale: float = knob(1.0, 0.1, 4.0, log=True, later=True)
    gain: float = knob(1.0, choices=(1.0, 2.0), later=True)
    learned_bias: bool = knob(True, choices=(True, False), later=True)

    def build(self, shape: Shape, layer: int | None = None) -> InputGate | StaticGate:
        """The gate of one layer: y (B,T,H,d), h (B,T,D) -> y."""
        if self.form == "static":
            return StaticGate(shape.heads)
        return InputGate(shape.heads, min(self.window or shape.width, shape.width), self)

    def canonical(self, recipe: Recipe) -> Technique:
        """A static gain reads nothing; a window as wide as the input is all of it."""
        if self.form == "static":
            return self._without("bias", "window", "scale", "gain", "learned_bias")
        return self._without("window") if self.window >= recipe.shape.width else self

    @classmethod
    def ranges(cls, bare: Recipe) -> dict[str, Knob]:
        """A window narrower than the input, or all of it."""
        return super().ranges(bare) | {"window": Knob(0, min(512, max(1, bare.shape.width - 1)))}
