"""Magnitude pruning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from golflab.model.compression.grid import Pruned, largest_spared
from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class Magnitude(Technique):
    """Set the smallest weights of every matrix to zero before, or after, they are rounded.

    Threshold per matrix: the ``fraction``-quantile of |W|. With ``when="before"`` the zeros are made before rounding and,
    if ``mask``, kept there while GPTQ feeds errors forward (without it, as in the entries, GPTQ refills them). With
    ``when="after"`` rounding sees the full weights and the smallest are dropped from its integers. Matrices of at most
    ``small`` elements are left alone (65,536 in the entries).
    """

    slot: ClassVar[str] = "prune"
    sources: ClassVar[tuple[str, ...]] = ("#295", "#849", "#1499")
    doubt: ClassVar[str] = "At int5 and int6 most of the pruned weights would be rounded to 0 or ±1 without it."

    fraction: float = knob(0.03, 0.0, 0.9)
    when: str = knob("before", choices=("before", "after"))
    mask: bool = knob(True, choices=(True, False))
    small: int = knob(0, 0, 65_536)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Tensor, ParameterInfo], Pruned]:
        """Return (matrix, info) -> `Pruned`."""

        def prune(weight: Tensor, info: ParameterInfo) -> Pruned:
            count = int(self.fraction * weight.numel())
            if count == 0 or weight.numel() <= self.small:
                return Pruned(weight, None, None)
            # The k-th smallest by partition: torch.quantile refuses more than 16 million elements.
            threshold = torch.kthvalue(weight.abs().flatten(), count).values
            keep = weight.abs() > threshold
            if self.when == "after":
                return Pruned(weight, None, keep)
            return Pruned(weight * keep, keep, keep) if self.mask else Pruned(weight * keep, None, None)

        return prune

    def canonical(self, recipe: Recipe) -> Technique:
        """Pruning nothing has no knobs; after rounding is before it where each weight is rounded alone; limits are sizes.

        ``mask`` is left as it is: without `gptq` it says nothing, but it tells what a published code does.
        """
        if self.fraction == 0:
            return self._without("when", "mask", "small")
        rounding = recipe.technique_in("rounding")
        alone = rounding is not None and rounding.name == "nearest"
        once = self._without("mask") if self.when == "after" else self
        return (once._without("when") if alone else once)._with(small=largest_spared(self.small, recipe))

    def rescale(self, old: Shape, new: Shape) -> Magnitude:
        """Scale ``small``, a number of elements, with the square of the width."""
        return replace(self, small=self.small * new.width**2 // old.width**2)
