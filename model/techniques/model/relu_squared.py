"""relu²: the baseline's activation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from golflab.model.network.kernels import leaky_square
from golflab.model.shape import Shape
from golflab.model.technique import Technique


@dataclass(frozen=True)
class ReluSquared(Technique):
    """Squares the positive hidden units and drops the others: max(0, u)²."""

    slot = "activation"
    sources = ("baseline", "arXiv 2109.08668")

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Tensor], Tensor]:
        """The activation: (B,T,F) -> (B,T,F)."""
        return lambda u: leaky_square(u, 0.0)
