"""Orthogonal initialisation of the matrices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golflab.model.network.blueprint import blueprint
from golflab.model.network.layers import Table, Weighted
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class OrthogonalInit(Technique):
    """Starts matrices with orthonormal rows or columns instead of uniform noise.

    Gain 1 for every matrix whose sides are both at least ``smallest``. Matrices that write to the stream (attention and
    MLP outputs) start at zero, as everywhere, or orthogonal·1/√(2L) with ``outputs="scaled"``; in the published code the
    zero is applied last, so that "muP output scaling" acts only on the side projections (``side_scale``: bigram and value
    embedding). ``tables`` includes the bigram table, as the size rule of #295 does by accident. If another technique has a knob
    for a start (``bigram_hash:start``), that knob decides. The projection of the value embedding, which otherwise starts at
    zero, is drawn (#849, #680).
    """

    slot = "init"
    sources = ("PR #849", "PR #1499", "PR #295", "PR #680")
    doubt = "Claimed: −0.001 to −0.004 bpb. Measured in #444: +0.003 bpb. According to #436 it hurts in runs under 5,000 steps."

    outputs: str = knob("zero", choices=("zero", "scaled"))
    side_scale: bool = knob(False, choices=(False, True))
    tables: bool = knob(False, choices=(False, True))
    smallest: int = knob(64, 1, 512)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Weighted, Tensor, torch.Generator], Tensor]:
        """The initial matrix: module, default draw, generator -> tensor."""
        small = (2 * shape.layers) ** -0.5

        def draw(module: Weighted, value: Tensor, rng: torch.Generator) -> Tensor:
            bigram_table = isinstance(module, Table) and module.role == "bigram"
            if min(value.shape) < self.smallest or (isinstance(module, Table) and not (bigram_table and self.tables)):
                return value
            writes_stream = module.start == "zeros" and module.role in ("attention", "mlp")
            if module.role == "head" or (writes_stream and self.outputs == "zero"):
                return value
            side = module.role in ("bigram", "value") and not bigram_table and self.side_scale
            gain = small if writes_stream or side else 1.0
            return nn.init.orthogonal_(torch.empty(value.shape), gain, generator=rng)

        return draw

    def canonical(self, recipe: Recipe) -> Technique:
        """Values of ``smallest`` that select the same matrices become one; knobs about missing matrices take their defaults."""
        if self == type(self)(smallest=self._usual(recipe.shape)):
            return self
        starts = {getattr(t, "start", "") for t in recipe.techniques_in("embed")}
        sides: dict[str, list[int]] = {"block": [], "side": [], "table": []}
        for info in blueprint(recipe):
            table = info.kind == "table" and info.role == "bigram"
            if info.role == "head" or not (table or info.kind == "linear"):
                continue
            fixed = info.role == "bigram" and ("zero_table" if table else "zero_projection") in starts
            if not fixed:
                kind = "table" if table else "side" if info.role in ("bigram", "value") else "block"
                sides[kind].append(min(info.shape))
        if not sides["block"]:  # a model that cannot be built
            return self
        drawn = {kind for kind, there in sides.items() if max(there, default=0) >= self.smallest}
        unread = [
            knob for knob, kind in (("outputs", "block"), ("side_scale", "side"), ("tables", "table")) if kind not in drawn
        ]
        settled = self._without(*unread)
        every = sides["block"] + sides["side"] + (sides["table"] if settled.tables else [])
        return settled._with(smallest=self._told_apart(self.smallest, every, self._usual(recipe.shape)))

    @staticmethod
    def _usual(shape: Shape) -> int:
        """The default of ``smallest``, which is meant for the challenge's width, at this one."""
        return max(1, 64 * shape.width // 512)

    @staticmethod
    def _told_apart(smallest: int, sides: list[int], usual: int) -> int:
        """Of all values that leave the same sides alone: the usual one, or the smallest side that is not left alone."""
        if [side < smallest for side in sides] == [side < usual for side in sides]:
            return usual
        return min((side for side in sides if side >= smallest), default=max(sides) + 1)

    def rescale(self, old: Shape, new: Shape) -> OrthogonalInit:
        """Scale ``smallest`` with the width."""
        return dataclasses.replace(self, smallest=max(1, self.smallest * new.width // old.width))
