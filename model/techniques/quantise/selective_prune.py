"""Set ±1s to zero until the file fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golflab.model.compression.grid import Quantised, with_values
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

Sizes = Callable[[dict[str, Quantised]], int]


@dataclass(frozen=True)
class SelectivePrune(Technique):
    """Set the cheapest ±1s to zero until the packed file fits the limit, and not one more.

    Every integer equal to ±1 costs scale² to drop; they are dropped cheapest first. How many is found by binary search
    with the recipe's own layout and codec, to within ``tolerance`` of the limit. A file that fits is left as it is; if even
    all ±1s (at most ``most`` of them) are not enough, that many are dropped and the file stays too large.
    """

    slot: ClassVar[str] = "trim"
    sources: ClassVar[tuple[str, ...]] = ("#609", "#1019", "#670")
    reads: ClassVar[tuple[str, ...]] = ("layout", "codec")

    most: float = knob(1.0, 0.0, 1.0)
    tolerance: float = knob(0.0005, 0.0, 0.01)

    def canonical(self, recipe: Recipe) -> Technique:
        """Without anything to drop, ``tolerance`` has no effect."""
        return self._without("tolerance") if self.most == 0 else self

    def build(
        self, shape: Shape, layer: int | None = None
    ) -> Callable[[dict[str, Quantised], Sizes, int], dict[str, Quantised]]:
        """Return (quantised, quantised -> packed bytes, bytes there is room for) -> quantised."""

        def trim(quantised: dict[str, Quantised], size: Sizes, room: int) -> dict[str, Quantised]:
            costs = _costs(quantised)
            low, high = 0, int(self.most * len(costs))
            if size(quantised) <= room or high == 0:
                return quantised
            best = _dropped(quantised, costs, high)
            if (smallest := size(best)) > room:
                return best
            # `low` is too large, `high` fits; stop when what fits is close enough to the limit.
            while high - low > 1 and room - smallest > self.tolerance * room:
                middle = (low + high) // 2
                trial = _dropped(quantised, costs, middle)
                if (measured := size(trial)) <= room:
                    best, high, smallest = trial, middle, measured
                else:
                    low = middle
            return best

        return trim


def _costs(quantised: dict[str, Quantised]) -> Tensor:
    """Cost of dropping each ±1 of the model, ascending: its scale."""
    parts = [
        q.scales.float()[:, None].expand(q.values.shape)[q.values.abs() == 1]
        for q in quantised.values()
        if q.scales is not None
    ]
    return torch.cat(parts).sort().values if parts else torch.zeros(0)


def _dropped(quantised: dict[str, Quantised], costs: Tensor, count: int) -> dict[str, Quantised]:
    """The same with the ``count`` cheapest ±1s set to zero; of those that cost the same, the first in the file's order."""
    if count == 0:
        return quantised
    threshold, out = costs[count - 1], {}
    equals = count - int((costs < threshold).sum())
    for name, q in quantised.items():
        if q.scales is None:
            out[name] = q
            continue
        ones, cost = q.values.abs() == 1, q.scales.float()[:, None].expand(q.values.shape)
        drop, level = ones & (cost < threshold), ones & (cost == threshold)
        first = level & (level.flatten().cumsum(0).view_as(level) <= equals)
        equals -= int(first.sum())
        out[name] = with_values(q, q.values * ~(drop | first))
    return out
