"""Rotary position embedding over the whole head."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from golflab.model.network.rotary import Rotary, ntk_base
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Knob, Technique, knob


@dataclass(frozen=True)
class Rope(Technique):
    """Rotates queries and keys by their position, over all dimensions of the head.

    Where the context T is longer than ``ntk_from``, the base becomes base·(T/ntk_from)^(d/(d−2)); 0 switches this off. The
    evaluation uses the base of the training, whatever its length.
    """

    slot = "rotary"
    sources = ("baseline", "arXiv 2104.09864")

    base: float = knob(10_000.0, 100.0, 1_000_000.0, log=True)
    ntk_from: int = knob(0, 0, 65_536)

    def build(self, shape: Shape, layer: int | None = None) -> Rotary:
        """The rotation: q or k (B,T,H,d), first position -> same."""
        return Rotary(shape.head_width, ntk_base(self.base, shape.head_width, shape.context, self.ntk_from), shape.context)

    def canonical(self, recipe: Recipe) -> Technique:
        """The base is stretched only where the context is longer than what it was meant for."""
        return self._without("ntk_from") if self.ntk_from >= recipe.shape.context else self

    @classmethod
    def ranges(cls, bare: Recipe) -> dict[str, Knob]:
        """A length beyond the context stretches nothing."""
        return super().ranges(bare) | {"ntk_from": Knob(0, min(65_536, bare.shape.context))}

    def rescale(self, old: Shape, new: Shape) -> Rope:
        """The length the base was meant for keeps its ratio to the context."""
        return dataclasses.replace(self, ntk_from=self.ntk_from * new.context // old.context)
