"""Value embedding: tokens add a learned vector to the values of the last layers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golflab.model.network.layers import Linear, Scale, Table
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


class ValueTable(nn.Module):
    """The module that `ValueEmbedding` builds: one table for all layers, one gain per layer that uses it."""

    def __init__(self, shape: Shape, dim: int, last: int) -> None:
        super().__init__()
        self.layers, self.heads = shape.layers, shape.kv_heads
        self.table = Table(shape.vocabulary, dim, "value", start=0.01)
        self.project = Linear(dim, shape.kv_heads * shape.head_width, "value", start="zeros")
        self.shared = Scale((), 0.1)
        self.gains = Scale((min(last, shape.layers),), 1.0)

    def forward(self, ids: Tensor, dtype: torch.dtype) -> list[Tensor | None]:
        """Ids (B,T) -> one entry per layer: (B,T,K,d) or None."""
        added = (self.project(self.table(ids, dtype)) * self.shared(dtype)).unflatten(-1, (self.heads, -1))
        gains = self.gains(dtype)
        without: list[Tensor | None] = [None] * (self.layers - gains.size(0))
        return without + [added * gain for gain in gains]


@dataclass(frozen=True)
class ValueEmbedding(Technique):
    """Adds a token's own value vector to the values of the last layers ("VE128").

    v ← W_v h + s_j·s·(P[ids] Rᵀ), P (V, dim), R (K·d, dim), s one for all layers (0.1), s_j one per layer (1), in the last
    ``last`` layers; before value residual, attention and XSA. R starts at zero unless a technique of the slot `init` draws
    it, as in #849 and #680. The published code names layers 9 and 10 of 11. A model with fewer layers
    does not have them, so there the module never acted.
    """

    slot = "value_add"
    sources = ("PR #549", "PR #849", "PR #680", "PR #1202", "PR #1630")
    doubt = "−0.0003 to −0.004 bpb. No further gain together with value residual (#609, #670)."

    dim: int = knob(128, 4, 512, log=True)
    last: int = knob(2, 1, 64)

    def build(self, shape: Shape, layer: int | None = None) -> ValueTable:
        """The table: ids (B,T), dtype -> what each layer adds."""
        return ValueTable(shape, self.dim, self.last)

    def canonical(self, recipe: Recipe) -> Technique:
        """A ``last`` beyond the number of layers means all layers."""
        return self._with(last=min(self.last, recipe.shape.layers))

    def rescale(self, old: Shape, new: Shape) -> ValueEmbedding:
        """The same share of the width and of the layers."""
        dim, last = round(self.dim * new.width / old.width), round(self.last * new.layers / old.layers)
        return dataclasses.replace(self, dim=max(4, dim), last=max(1, last))
