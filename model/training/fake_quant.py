"""Quantisation-aware training: the forward pass uses rounded weights; the gradient ignores the rounding.

The grid is that of the export: bits and scales come from the techniques in the slots `bits` and `clip`, by the same functions
that write the file. A `Rule` describes trainings that round differently from their export, as several published ones did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from golflab.model.compression.grid import Grid, grid_of, stored_scales, ternary_scales
from golflab.model.compression.quantize import largest_quantiles, round_to
from golflab.model.network.blueprint import blueprint
from golflab.model.network.layers import Linear, ParameterInfo, parameters_of
from golflab.model.recipe import Recipe

Rounder = Callable[[Tensor, Grid, Callable[[Tensor], Tensor]], Tensor]  # weight, grid, weight -> scales: the weight seen

QUANTILE = 0.9995  # of |w| in a row: the clip that #849 trains with


@dataclass(frozen=True)
class Rule:
    """Which matrices training rounds, and how.

    Attributes:
        scales: ``export``, those of the slot `clip`, held in fp16 as in the file; or the row's largest |w| (``row_max``) or
            its `QUANTILE` (``quantile``) over the largest level c, in float32.
        floor: scales that are not the export's are at least 1/c.
        extended: scales that are not the export's go with a grid that also has the level −c−1.
        where: ``stored``, the matrices that the export stores on a grid; ``large``, all above the export's size limit,
            those it keeps in fp16 for their place included; ``kept``, only what it keeps in fp16; ``all``, every matrix.
        bits: width for matrices that the export keeps in fp16; 0 for the width of their role.
    """

    scales: str = "export"
    floor: bool = False
    extended: bool = False
    where: str = "stored"
    bits: int = 0

    def grid(self, info: ParameterInfo, bits: Any, shape: Any) -> Grid | None:
        """The grid on which training sees a matrix, or None where it sees the matrix itself.

        Args:
            info: the matrix.
            bits: the recipe's technique of the slot `bits`.
            shape: the recipe's body plan.
        """
        stored: Grid | None = bits.build(shape)(info)
        kept = self._grid_of_kept(info, bits, shape) if stored is None and self.where != "stored" else None
        grid = kept if stored is None else None if self.where == "kept" else stored
        if grid is None or self.scales == "export" or grid.largest == 1:
            return grid
        return Grid(grid.largest, -grid.largest - self.extended)

    def _grid_of_kept(self, info: ParameterInfo, bits: Any, shape: Any) -> Grid | None:
        if self.where == "large" and info.count <= getattr(bits, "small", 0):
            return None
        if self.bits:
            return grid_of(self.bits)
        whole = bits.without_exceptions() if hasattr(bits, "without_exceptions") else bits
        found: Grid | None = whole.build(shape)(info)
        return found

    def own_scales(self, weight: Tensor, largest: int) -> Tensor:
        """Scales (rows,) of a ``weight`` (rows, columns) by the training's own rule."""
        magnitude = weight.abs()
        clip = magnitude.amax(dim=1) if self.scales == "row_max" else largest_quantiles(magnitude, (QUANTILE,))[0]
        return (clip / largest).clamp_min(1 / largest if self.floor else 1e-12)


class FakeQuant:
    """Rounds matrices in the forward pass while the multiplier is at or below a threshold.

    Args:
        rounder: how weights are rounded while training.
        threshold: learning-rate multiplier at which it begins; 1 begins with the run.
        roles: the roles whose matrices are rounded; empty for all.
        rule: scales, grids and matrices, where they are not the export's.
    """

    def __init__(self, rounder: Rounder, threshold: float, roles: tuple[str, ...] = (), rule: Rule | None = None) -> None:
        self.rounder, self.threshold, self.roles, self.rule = rounder, threshold, roles, rule or Rule()
        self.multiplier = torch.ones(())
        self.wrapped: list[tuple[Linear, Callable[[Tensor], Tensor]]] = []

    def attach(self, model: nn.Module, recipe: Recipe) -> None:
        """Find the matrices that training rounds."""
        bits, clip_of = recipe.technique_in("bits"), recipe.build("clip")
        for info in parameters_of(model):
            if info.kind != "linear" or (self.roles and info.role not in self.roles):
                continue
            grid = self.rule.grid(info, bits, recipe.shape)
            if grid is None:
                continue
            owner = model.get_submodule(info.name.rpartition(".")[0])
            assert isinstance(owner, Linear)
            self.wrapped.append((owner, self._wrapped(grid, info, clip_of)))

    def _wrapped(self, grid: Grid, info: ParameterInfo, clip: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        def scales(weight: Tensor) -> Tensor:
            if grid.largest == 1:
                return stored_scales(ternary_scales(weight))
            if self.rule.scales == "export":
                return stored_scales(clip(weight, grid.largest, info))
            return self.rule.own_scales(weight, grid.largest)

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


def whole_run(threshold: float, recipe: Recipe) -> float:
    """A threshold on the learning-rate multiplier; 1 where the recipe's schedule already starts at or below it."""
    schedule = recipe.technique_in("schedule")
    # Both schedules start at their largest multiplier and fall; nothing is known of others.
    falling = schedule is not None and schedule.name in ("warmdown", "cosine")
    return 1.0 if falling and schedule.build(recipe.shape)(0.0) <= threshold else threshold  # type: ignore[union-attr]


def simplest_reach(rule: Rule, recipe: Recipe) -> dict[str, Any]:
    """The simplest ``where`` and ``bits`` with which the same matrices are rounded on the same grids as by ``rule``."""
    bits = recipe.technique_in("bits")
    linears = [info for info in blueprint(recipe) if info.kind == "linear"] if rule.where != "stored" else []
    if bits is None or not linears:
        return {"where": rule.where, "bits": rule.bits if rule.where != "stored" else 0}

    def grids(where: str, width: int) -> list[Grid | None]:
        other = replace(rule, where=where, bits=width)
        return [other.grid(info, bits, recipe.shape) for info in linears]

    given = grids(rule.where, rule.bits)
    choices = [("stored", 0), ("large", 0), ("all", 0), ("kept", 0), ("large", rule.bits), ("all", rule.bits)]
    where, width = next((c for c in choices if grids(*c) == given), (rule.where, rule.bits))
    return {"where": where, "bits": width}
