"""STE QAT: training with rounded weights and straight-through gradients."""

from __future__ import annotations

from dataclasses import dataclass

from model.fake_quant import FakeQuant, straight_through
from model.recipe import Shape
from model.technique import Technique, knob


@dataclass(frozen=True)
class SteQat(Technique):
    """Trains with the weights the export will store, from the moment the learning rate has fallen to ``threshold``.

    The forward pass sees Q(W), on the grid and scales of the recipe's `bits` and `clip`; the gradient goes to W
    unchanged, through clipped entries too. ``threshold`` 1 is quantisation-aware training from the first step, 0.5 or
    0.15 "late QAT": with a linear warmdown the active share of it equals the threshold.
    """

    slot = "fake_quant"
    sources = ("PR #295", "PR #849", "PR #1499", "arXiv 1308.3432")
    doubt = "−0.011 to +0.03 bpb. In #680 it reaches two small matrices only; in other entries it never took effect (#315)."
    reads = ("bits", "clip")

    threshold: float = knob(0.5, 0.01, 1.0)

    def build(self, shape: Shape, layer: int | None = None) -> FakeQuant:
        """The controller of the rounding."""
        return FakeQuant(straight_through, self.threshold)
