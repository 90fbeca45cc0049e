"""Backout: part of the middle of the stack is subtracted again at its end."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from golflab.model.network.layers import Scale
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


class Subtract(nn.Module):
    """The module that `Backout` builds."""

    def __init__(self, step: int, value: float) -> None:
        super().__init__()
        self.step = step
        self.weight = Scale((), value)

    def forward(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        """The last positions of the stream (…,T',D) and the outputs of all steps -> x."""
        return x - self.weight(x.dtype) * outputs[self.step][..., -x.size(-2) :, :]


@dataclass(frozen=True)
class Backout(Technique):
    """Subtracts a learned share of the middle block's output before the final norm.

    x ← x − λ·h, h the output of step ⌊L/2⌋ (the first decoder block, its skip included), λ one number from ``value``.
    """

    slot = "exit"
    sources = ("PR #295", "PR #339")
    doubt = (
        "It subtracts what U-Net skips add. Published: −0.007 bpb, with a different step time; +0.0035 bpb with XSA and LN "
        "scale (#478)."
    )

    value: float = knob(0.2, -1.0, 1.0)

    def build(self, shape: Shape, layer: int | None = None) -> Subtract:
        """The subtraction: x, outputs of all steps -> x."""
        return Subtract(shape.layers // 2, self.value)
