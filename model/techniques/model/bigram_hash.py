"""BigramHash: an embedding for the hashed pair of the current and the previous token."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golflab.model.network.layers import Linear, Scale, Table
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


class HashedBigrams(nn.Module):
    """The module that `BigramHash` builds; `index` is its hash."""

    def __init__(self, buckets: int, dim: int, width: int, scale: float, start: str) -> None:
        super().__init__()
        self.buckets = buckets
        no_table, no_projection = start == "zero_table", start == "zero_projection"
        self.table = Table(buckets, dim, "bigram", "zeros" if no_table else 0.02, fixed=no_table)
        self.project = Linear(dim, width, "bigram", "zeros" if no_projection else "uniform", fixed=no_projection)
        self.scale = Scale((), scale)

    def index(self, ids: Tensor) -> Tensor:
        """Bucket of every position: ids (B,T) -> (B,T). The first position has no predecessor and the last bucket."""
        pair = (36313 * ids[:, 1:]) ^ (27191 * ids[:, :-1])
        alone = torch.full_like(ids[:, :1], self.buckets - 1)
        return torch.cat([alone, pair % (self.buckets - 1)], 1)

    def forward(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Ids (B,T) -> (B,T,D)."""
        return self.project(self.table(self.index(ids), dtype)) * self.scale(dtype)


@dataclass(frozen=True)
class BigramHash(Technique):
    """Adds a learned vector for the pair (previous token, token), found by a hash.

    index_t = ((36313·tok_t) xor (27191·tok_{t−1})) mod (buckets−1), and buckets−1 at the first position of a sequence;
    the embedding becomes E[ids] + s·(Table[index] Wᵀ), Table (buckets, dim), W (D, dim), before the first norm. The sum
    is part of x0. ``start`` says whether Table or W starts at zero, whatever technique is in the slot `init`; ``both_live``
    draws both. If both were zero, neither would get a gradient (this happened in #212).
    """

    slot = "embed"
    sources = ("PR #849", "PR #680", "PR #295", "PR #1499", "PR #180")
    doubt = "It helps less with a larger vocabulary, which already has tokens for frequent pairs."

    buckets: int = knob(4096, 16, 65536, log=True)
    dim: int = knob(128, 4, 512, log=True)
    scale: float = knob(0.05, 0.001, 1.0, log=True)
    start: str = knob("zero_table", choices=("zero_table", "zero_projection", "both_live"))

    def build(self, shape: Shape, layer: int | None = None) -> HashedBigrams:
        """The embedding of pairs: ids (B,T), dtype -> (B,T,D)."""
        return HashedBigrams(self.buckets, self.dim, shape.width, self.scale, self.start)

    def rescale(self, old: Shape, new: Shape) -> BigramHash:
        """Scale the number of buckets and their width with the width of the model."""
        ratio = new.width / old.width
        return dataclasses.replace(self, buckets=max(16, round(self.buckets * ratio)), dim=max(4, round(self.dim * ratio)))
