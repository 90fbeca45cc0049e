"""Partial RoPE: only the first dimensions of each head are rotated by position."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from golflab.model.network.rotary import Rotary, ntk_base
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Knob, Technique, knob


@dataclass(frozen=True)
class PartialRope(Technique):
    """Rotates only the first ``dims`` dimensions of every query and key head; the others carry no position.

    The frequencies are base^(−2j/dims), j = 0 … dims/2−1. QK-norm still runs over the whole head. ``ntk_from`` as in
    `Rope`, with the rotated dimensions in the exponent.
    """

    slot = "rotary"
    sources = ("PR #315", "PR #849", "PR #680", "PR #1499")
    doubt = "Published effects range from −0.004 to +0.012 bpb."

    dims: int = knob(16, 4, 128, step=2)
    base: float = knob(10_000.0, 100.0, 1_000_000.0, log=True)
    ntk_from: int = knob(0, 0, 65_536)

    def build(self, shape: Shape, layer: int | None = None) -> Rotary:
        """The rotation: q or k (B,T,H,d), first position -> same."""
        return Rotary(self.dims, ntk_base(self.base, self.dims, shape.context, self.ntk_from), shape.context)

    def check(self, recipe: Recipe) -> str | None:
        """The rotated part must be even and fit into the head."""
        if self.dims % 2 or self.dims > recipe.shape.head_width:
            return f"dims={self.dims} must be even and at most the head width, {recipe.shape.head_width}."
        return None

    def canonical(self, recipe: Recipe) -> Technique:
        """The base is stretched only where the context is longer than what it was meant for."""
        return self._without("ntk_from") if self.ntk_from >= recipe.shape.context else self

    @classmethod
    def ranges(cls, bare: Recipe) -> dict[str, Knob]:
        """At most the whole head is rotated; a length beyond the context stretches nothing."""
        dims = Knob(4, min(128, max(6, bare.shape.head_width)), step=2)
        return super().ranges(bare) | {"dims": dims, "ntk_from": Knob(0, min(65_536, bare.shape.context))}

    def rescale(self, old: Shape, new: Shape) -> PartialRope:
        """The same share of the head, and the same ratio of lengths."""
        dims = max(4, 2 * round(self.dims * new.head_width / old.head_width / 2))
        return dataclasses.replace(self, dims=dims, ntk_from=self.ntk_from * new.context // old.context)
