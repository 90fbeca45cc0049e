"""XSA, exclusive self-attention: the output loses its component along the position's own value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golflab.model.network.layers import Scale
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


def exclude_own_value(y: Tensor, v: Tensor) -> Tensor:
    """y − (y·v̂)v̂ per head, v̂ the position's own normalised value: y (B,T,H,d), v (B,T,K,d) -> (B,T,H,d)."""
    own = F.normalize(v, dim=-1, eps=1e-12).unsqueeze(3)  # (B,T,K,1,d)
    grouped = y.unflatten(2, (v.size(2), -1))  # (B,T,K,H/K,d)
    along = (grouped * own).sum(-1, keepdim=True)
    return (grouped - along * own).flatten(2, 3)


class GatedXSA(nn.Module):
    """`exclude_own_value` by a share per head, tanh(α), α (H,) starting at zero."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.weight = Scale((heads,), 0.0)

    def forward(self, y: Tensor, v: Tensor) -> Tensor:
        """y (B,T,H,d), v (B,T,K,d) -> y."""
        return torch.lerp(y, exclude_own_value(y, v), self.weight(y.dtype).tanh().unsqueeze(-1))


@dataclass(frozen=True)
class XSA(Technique):
    """Removes from each head's output the part that points along the same position's value vector.

    y ← y − (y·v̂)v̂ with v̂ = v/‖v‖ of the head's key/value head, in the last ``last`` layers. v is the final value:
    value embeddings and value residual included. After attention, before the head gate. ``gated``: y ← y − tanh(α_h)(y·v̂)v̂,
    α (H,) learned from zero, at which nothing is removed (#2018).
    """

    slot = "attn_out"
    sources = ("arXiv 2603.09078", "PR #549", "PR #849", "PR #680", "PR #2018")
    doubt = (
        "Last 4 layers: −0.002 to −0.018 bpb published; all layers against last 4: −0.006 to +0.014. The gated form has no "
        "published number of its own: its entry trains on validation text."
    )

    last: int = knob(4, 1, 64)
    gated: bool = knob(False, choices=(False, True), later=True)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Tensor, Tensor], Tensor] | None:
        """The projection in one layer: y (B,T,H,d), v (B,T,K,d) -> y; None below the last ``last`` layers."""
        assert layer is not None
        if layer < shape.layers - self.last:
            return None
        return GatedXSA(shape.heads) if self.gated else exclude_own_value

    def canonical(self, recipe: Recipe) -> Technique:
        """A ``last`` beyond the number of layers means all layers."""
        return self._with(last=min(self.last, recipe.shape.layers))

    def rescale(self, old: Shape, new: Shape) -> XSA:
        """The same share of the layers."""
        return dataclasses.replace(self, last=max(1, round(self.last * new.layers / old.layers)))
