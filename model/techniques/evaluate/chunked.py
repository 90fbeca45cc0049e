"""Non-overlapping windows: every token is scored once, with whatever context its window holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from golflab.model.evaluation.windows import Plan, lay
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class Chunked(Technique):
    """Read the text in windows of T inputs side by side and score all of each: 0 … T-1 tokens of context.

    The challenge's own evaluation. It drops the ⌈N-1⌉ mod T inputs at the end; scoring them too is the default here.

    Attributes:
        isolated: begin anew at every BOS, so that no document is read with another one in front of it.
        tail: ``scored`` scores the last, shorter window too; ``dropped`` leaves it out, as the challenge does.
    """

    slot = "windows"
    sources = ("openai/parameter-golf train_gpt.py", "#77 (isolated)")

    isolated: bool = knob(False, choices=(False, True))
    tail: str = knob("scored", choices=("scored", "dropped"))

    def build(self, shape: Shape, layer: int | None = None) -> Plan:
        """Return ``(inputs, begins) -> plan``."""

        def plan(inputs: int, begins: np.ndarray) -> np.ndarray:
            kept = inputs // shape.context * shape.context if self.tail == "dropped" else inputs
            return lay(kept, begins, shape.context, shape.context, self.isolated)

        return plan
