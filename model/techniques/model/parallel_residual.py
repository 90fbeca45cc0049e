"""Parallel residuals: attention and MLP of a block read the same input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from golflab.model.network.gpt import Block
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


def side_by_side(
    block: Block, x: Tensor, x0: Tensor, extra: Tensor | None, first: Tensor | None, start: int
) -> tuple[Tensor, Tensor]:
    """Both branches of ``block`` from one input: the stream (B,T-start,D) and the block's values (B,T,K,d)."""
    attended, values = block.attention_branch(x, extra, first, start)
    x = x[..., start:, :]
    return x + attended + block.mlp_branch(x), values


@dataclass(frozen=True)
class ParallelResidual(Technique):
    """Feeds attention and MLP the same normalised input in the last ``last`` layers (GPT-J).

    x ← x + a⊙attention(h) + b⊙mlp(h), h = norm(x). No parameters.
    """

    slot = "wiring"
    sources = ("PR #1499", "PR #1412", "Wang and Komatsuzaki 2021")
    doubt = (
        "Published: −0.0008 (#1437) to +0.004 bpb (#1623). It is worse with slope 0.9 (#1289) and with value residual (#2005)."
    )
    clashes = {"wavelet_mixer": "the mixer sits between attention and MLP, and here nothing is between them."}

    last: int = knob(3, 1, 64)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[..., tuple[Tensor, Tensor]] | None:
        """The wiring of one block; None below the last ``last`` layers."""
        assert layer is not None
        return side_by_side if layer >= shape.layers - self.last else None

    def canonical(self, recipe: Recipe) -> Technique:
        """A ``last`` beyond the number of layers means all layers."""
        return self._with(last=min(self.last, recipe.shape.layers))

    def rescale(self, old: Shape, new: Shape) -> ParallelResidual:
        """The same share of the layers."""
        return dataclasses.replace(self, last=max(1, round(self.last * new.layers / old.layers)))
