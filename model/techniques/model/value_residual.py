"""Value residual: later layers mix the first layer's values into their own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golflab.model.network.layers import Scale
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

_STARTS = {
    "pair": (0.5, 0.5),
    "softmax": (0.95, 0.05),
    "softmax_logs": (math.log(0.95), math.log(0.05)),
    "gate": (0.0,),
}


class ValueMix(nn.Module):
    """The module that `ValueResidual` builds."""

    def __init__(self, form: str, first: bool) -> None:
        super().__init__()
        self.form, self.first = form, first
        self.weight = Scale((len(_STARTS[form]),), _STARTS[form])

    def forward(self, v: Tensor, v0: Tensor) -> Tensor:
        """This layer's values and the first layer's (B,T,K,d) -> (B,T,K,d)."""
        if self.first:
            return v
        weight = self.weight(torch.float32)
        if self.form == "gate":
            return v + weight.sigmoid().to(v.dtype) * v0
        if self.form.startswith("softmax"):
            own, other = weight.softmax(0).to(v.dtype)
        else:
            other, own = weight.to(v.dtype)
        return own * v + other * v0


@dataclass(frozen=True)
class ValueResidual(Technique):
    """Adds the first layer's values to every later layer's, by learned weights.

    ``pair``: v ← λ0·v0 + λ1·v from (½, ½), unconstrained. ``softmax``: v ← p0·v + p1·v0 with p = softmax of raw (0.95,
    0.05), which starts at (0.711, 0.289), not at the (0.95, 0.05) its authors write (#1499); ``softmax_logs`` starts
    there. ``gate``: v + σ(α)·v0 from α = 0 (#569). v0 includes the value embedding. ``first_layer_pair`` keeps the first
    layer's own weights, unread, as #680 does.
    """

    slot = "value_mix"
    sources = ("arXiv 2410.17897", "PR #413", "PR #680", "PR #1499", "PR #569")
    doubt = "−0.015 bpb in runs of 1,000 steps, about zero at full length. No further gain with a value embedding (#609, #670)."

    form: str = knob("pair", choices=("pair", "softmax", "softmax_logs", "gate"))
    first_layer_pair: bool = knob(False, choices=(False, True))

    def build(self, shape: Shape, layer: int | None = None) -> ValueMix | None:
        """The mix of one layer: v, v0 (B,T,K,d) -> v."""
        if layer == 0 and not self.first_layer_pair:
            return None
        return ValueMix(self.form, first=layer == 0)

    def canonical(self, recipe: Recipe) -> Technique:
        """A model of one layer has no later one to mix in."""
        return self._without("form") if recipe.shape.layers == 1 and not self.first_layer_pair else self
