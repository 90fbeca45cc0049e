"""The columns that matter most stay at eight bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from golflab.model.compression.grid import Grid
from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Knob, Technique, knob

Grids = Callable[[ParameterInfo], Grid | None]
EIGHT = 127  # largest level of eight bits


@dataclass(frozen=True)
class AwqLite(Technique):
    """Keeps the ``groups`` runs of columns that matter most on eight bits with row scales of their own ("AWQ-lite").

    Every matrix on fewer than eight bits is cut into runs of ``width`` columns. A run's score is Σ_j rms(x_j)·mean_i |W_ij|
    over its columns j, x being the matrix's inputs on calibration text. The best runs of the whole model are rounded to ±127 in
    the same GPTQ solve as their neighbours. Their scales are those of the slot `clip` for these columns (`sd_clip`: k·std/127).
    In the entries the best run was always one of the token table.
    """

    slot: ClassVar[str] = "protect"
    sources: ClassVar[tuple[str, ...]] = ("arXiv:2306.00978", "PR #1908", "PR #1945", "PR #2014")
    doubt: ClassVar[str] = "−0.0003 bpb at equal steps (3 seeds, #1908), for 87 kB."
    needs: ClassVar[dict[str, str]] = {"gptq": "only its calibration says how large a matrix's inputs are."}

    groups: int = knob(1, 1, 16)
    width: int = knob(64, 8, 256)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[..., dict[str, list[slice]]]:
        """Return (weights, infos, Hessians, info -> grid) -> name -> its protected columns."""

        def choose(
            weights: dict[str, Tensor], infos: list[ParameterInfo], hessians: dict[str, Tensor], grid_of: Grids
        ) -> dict[str, list[slice]]:
            scored = []
            for order, info in enumerate(i for i in infos if i.name in hessians and _coarse(grid_of(i))):
                weight = weights[info.name].float()
                sizes = hessians[info.name].to(weight.device).diagonal().clamp_min(0).sqrt() * weight.abs().mean(dim=0)
                runs = sizes.split(self.width)
                scored += [(-float(run.sum()), order, number, info.name) for number, run in enumerate(runs)]
            chosen: dict[str, list[slice]] = {}
            for _, _, number, name in sorted(scored)[: self.groups]:
                start = number * self.width
                stop = min(start + self.width, weights[name].shape[1])
                chosen.setdefault(name, []).append(slice(start, stop))
            return chosen

        return choose

    def more_bytes(
        self, infos: list[ParameterInfo], grid_of: Grids, rate: Callable[[ParameterInfo, int, int], float]
    ) -> dict[str, float]:
        """Expected bytes that it adds, by name: the largest matrices are taken for the best ones.

        Args:
            infos: the model's parameters.
            grid_of: the grid of each.
            rate: (info, columns, largest level) -> expected bytes of the integers of that many of its columns.
        """
        coarse = sorted((i for i in infos if _coarse(grid_of(i))), key=lambda i: -i.count)[: self.groups]
        found = {}
        for info in coarse:
            width, grid = min(self.width, info.shape[1]), grid_of(info)
            assert grid is not None
            found[info.name] = rate(info, width, EIGHT) - rate(info, width, grid.largest) + 2.0 * info.shape[0]
        return found

    def canonical(self, recipe: Recipe) -> Technique:
        """No matrix is wider than the MLP."""
        return self._with(width=min(self.width, max(8, recipe.shape.width, recipe.shape.hidden)))

    @classmethod
    def ranges(cls, bare: Recipe) -> dict[str, Knob]:
        """At most half of the stream's width."""
        return super().ranges(bare) | {"width": Knob(8, max(9, min(256, bare.shape.width // 2)))}

    def rescale(self, old: Shape, new: Shape) -> AwqLite:
        """The same share of the width."""
        return dataclasses.replace(self, width=min(256, max(8, self.width * new.width // old.width)))


def _coarse(grid: Grid | None) -> bool:
    """Whether a grid has fewer levels than eight bits have, and more than three."""
    return grid is not None and 1 < grid.largest < EIGHT
