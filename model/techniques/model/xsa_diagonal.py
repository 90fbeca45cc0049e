"""XSA, diagonal form: a position's own value is left out of its attention sum."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from golflab.model.network.kernels import causal_attention
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class XSADiagonal(Technique):
    """Attends as usual but leaves each position's own value out of the sum, in the last ``last`` layers.

    y_t = Σ_{s≤t} A_ts v_s − A_tt v_t, not renormalised: the first position gets exactly zero. This is what #1499 calls XSA; the
    projection of arXiv 2603.09078 is `xsa`. The (T,T) matrix of the published code is not needed: the diagonal is dropped
    block by block.
    """

    slot = "attend"
    sources = ("PR #1499",)
    doubt = "No effect of this form alone has been published."

    last: int = knob(4, 1, 64)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        """Attention of one layer: q (B,Tq,H,d), k, v (B,T,K,d) -> (B,Tq,H,d); None below the last ``last`` layers."""
        assert layer is not None
        return functools.partial(causal_attention, exclusive=True) if layer >= shape.layers - self.last else None

    def canonical(self, recipe: Recipe) -> Technique:
        """A ``last`` beyond the number of layers means all layers."""
        return self._with(last=min(self.last, recipe.shape.layers))

    def rescale(self, old: Shape, new: Shape) -> XSADiagonal:
        """The same share of the layers."""
        return dataclasses.replace(self, last=max(1, round(self.last * new.layers / old.layers)))
