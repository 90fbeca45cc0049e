"""Non-overlapping windows: every token is scored once, with whatever context its window holds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from golflab.model.evaluation.windows import Plan, lay
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class Chunked(Technique):
    """Read the text in windows of T inputs side by side and score all of each: 0 … T-1 tokens of context.

    The challenge's own evaluation. It drops the ⌈N-1⌉ mod T inputs at the end; scoring them too is the default here.

    Attributes:
        isolated: begin anew at every BOS, so that no document is read with another one in front of it.
        tail: ``scored`` scores the last, shorter window too; ``dropped`` leaves it out, as the challenge does.
        context: T; 0 means the context of the training. The best accepted entries read more (#1953: 2,560 of 2,048).
    """

    slot = "windows"
    sources = ("openai/parameter-golf train_gpt.py", "#77 (isolated)", "#1953 (context)")

    isolated: bool = knob(False, choices=(False, True))
    tail: str = knob("scored", choices=("scored", "dropped"))
    context: int = knob(0, 0, 8192, later=True)

    def build(self, shape: Shape, layer: int | None = None) -> Plan:
        """Return ``(inputs, begins) -> plan``."""
        context = self.context or shape.context

        def plan(inputs: int, begins: np.ndarray) -> np.ndarray:
            kept = inputs // context * context if self.tail == "dropped" else inputs
            return lay(kept, begins, context, context, self.isolated)

        return plan

    def canonical(self, recipe: Recipe) -> Technique:
        """The context of the training is the default."""
        return self._without("context") if self.context == recipe.shape.context else self

    def rescale(self, old: Shape, new: Shape) -> Chunked:
        """Keep the ratio of the two contexts."""
        return dataclasses.replace(self, context=min(8192, self.context * new.context // old.context))
