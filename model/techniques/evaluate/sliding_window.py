"""Overlapping windows: all but the first tokens are scored with nearly full context."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from golflab.model.evaluation.windows import Plan, lay
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Knob, Technique, knob


@dataclass(frozen=True)
class SlidingWindow(Technique):
    """Move a window of T inputs on by ``stride`` and score only its last ``stride``: at least T-stride tokens of context.

    Window k reads inputs [k·s, k·s+T) and scores [k·s+T-s, k·s+T); window 0 scores everything it reads. A window is kept
    only if k·s+T-s lies inside the text, so that every target is scored exactly once. It costs about T/s times the
    chunks, less what the head and the last block save by running only where something is scored. With s = T it is `chunked`.

    Attributes:
        stride: inputs between two windows, at most T.
        isolated: begin anew at every BOS.
        context: T; 0 means the context of the training. The best accepted entries read more (#1953: 2,560 of 2,048).
    """

    slot = "windows"
    sources = ("#50", "#77", "#549", "#1953")

    stride: int = knob(64, 1, 8192, log=True)
    isolated: bool = knob(False, choices=(False, True))
    context: int = knob(0, 0, 8192, later=True)

    def build(self, shape: Shape, layer: int | None = None) -> Plan:
        """Return ``(inputs, begins) -> plan``."""
        context = self.context or shape.context
        stride = min(self.stride, context)

        def plan(inputs: int, begins: np.ndarray) -> np.ndarray:
            return lay(inputs, begins, context, stride, self.isolated)

        return plan

    def check(self, recipe: Recipe) -> str | None:
        """A stride beyond the context would leave tokens unscored."""
        context = self.context or recipe.shape.context
        if self.stride > context:
            return f"stride={self.stride} is longer than context={context}; it must be at most that."
        return None

    def canonical(self, recipe: Recipe) -> Technique:
        """The context of the training is the default."""
        return self._without("context") if self.context == recipe.shape.context else self

    @classmethod
    def ranges(cls, bare: Recipe) -> dict[str, Knob]:
        """A stride is at most the context."""
        return super().ranges(bare) | {"stride": Knob(1, max(2, min(8192, bare.shape.context)), log=True)}

    def rescale(self, old: Shape, new: Shape) -> SlidingWindow:
        """Keep the stride, but never more than a quarter of the new context, so that there is something to gain.

        The evaluation's context stays the same multiple of the training's.
        """
        context = min(8192, self.context * new.context // old.context)
        return dataclasses.replace(self, stride=min(self.stride, max(1, new.context // 4)), context=context)
