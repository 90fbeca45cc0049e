"""Quantisation-aware training: the forward pass sees rounded weights, the gradient passes as if it did not.

The grid is the export's own: bits and scales come from the techniques in the recipe's slots `bits` and `clip`, through the same
functions that write the file.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.layers import Linear, ParameterInfo, parameters_of
from model.quantize import Grid, round_to, stored_scales, ternary_scales
from model.recipe import Recipe

Rounder = Callable[[Tensor, Grid, Callable[[Tensor], Tensor]], Tensor]  # weight, grid, weight -> scales: the weight seen


class FakeQuant:
    """Puts a rounding between the matrices and the forward pass once the multiplier has fallen to a threshold; never off again.

    Args:
        rounder: how weights are rounded while training.
        threshold: learning-rate multiplier at which it begins; 1 begins with the run.
        roles: the roles whose matrices are rounded; empty for all.
    """

    def __init__(self, rounder: Rounder, threshold: float, roles: tuple[str, ...] = ()) -> None:
        self.rounder, self.threshold, self.roles = rounder, threshold, roles
        self.multiplier = torch.ones(())
        self.wrapped: list[tuple[Linear, Callable[[Tensor], Tensor]]] = []

    def attach(self, model: nn.Module, recipe: Recipe) -> None:
        """Find the matrices the recipe will store on a grid."""
        bits, clip = recipe.tenant("bits"), recipe.tenant("clip")
        assert bits is not None
        assert clip is not None
        grid_of, clip_of = bits.build(recipe.shape), clip.build(recipe.shape)
        for info in parameters_of(model):
            grid = grid_of(info)
            if info.kind != "linear" or grid is None or (self.roles and info.role not in self.roles):
                continue
            owner = model.get_submodule(info.name.rpartition(".")[0])
            assert isinstance(owner, Linear)
            self.wrapped.append((owner, self._wrapped(grid, info, clip_of)))

    def _wrapped(self, grid: Grid, info: ParameterInfo, clip: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        def scales(weight: Tensor) -> Tensor:
            return stored_scales(ternary_scales(weight) if grid.largest == 1 else clip(weight, grid.largest, info))

        return lambda weight: self.rounder(weight, grid, scales)

    def update(self, multiplier: float) -> None:
        """Called before every step with the schedule's multiplier."""
        self.multiplier.fill_(multiplier)
        on = multiplier <= self.threshold
        for owner, fake in self.wrapped:
            owner.fake = fake if on else None


def straight_through(weight: Tensor, grid: Grid, scales: Callable[[Tensor], Tensor]) -> Tensor:
    """W + stopgrad(Q(W) − W): rounded forward, identity backward (arXiv 1308.3432)."""
    with torch.no_grad():
        step = scales(weight)
        error = round_to(weight, step, grid) * step[:, None] - weight
    return weight + error
