"""LN scale: the normalised inputs of deeper layers are smaller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from golflab.model.shape import Shape
from golflab.model.technique import Technique


@dataclass(frozen=True)
class LNScale(Technique):
    """Multiplies the output of both norms of block l by 1/√(l+1).

    With QK-norm it has no effect on queries and keys. It then acts on the values, on the inputs of gates and, squared, on the
    MLP.
    """

    slot = "norm"
    sources = ("PR #315", "PR #849", "PR #1499")

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Tensor], Tensor]:
        """The factor of one block: (B,T,D) -> (B,T,D)."""
        assert layer is not None
        factor = (layer + 1) ** -0.5
        return lambda h: h * factor
