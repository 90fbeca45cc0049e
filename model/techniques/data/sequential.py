"""Tokens in the order of the text, without shuffling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from golflab.model.data.batches import Batches, rows_of
from golflab.model.data.shards import Stream
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class Sequential(Technique):
    """Consume the training text contiguously and in order, wrapping at its end.

    Row r of step s begins at token o + (s·R + r)·T, with R rows of T positions a batch; inputs are tokens [b, b+T),
    targets [b+1, b+T+1). The challenge's loader has o = 0; drawing o from the seed makes seeds differ in their data too,
    so that the spread between seeds covers it.

    Attributes:
        start: ``seed`` draws o from the seed, ``zero`` begins at the first token.
    """

    slot = "batches"
    sources = ("openai/parameter-golf train_gpt.py",)

    start: str = knob("seed", choices=("seed", "zero"))

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Stream, int, int], Batches]:
        """Return ``(stream, batch_tokens, seed) -> Batches``."""
        context = shape.context

        def batches(stream: Stream, batch_tokens: int, seed: int) -> Batches:
            rows = rows_of(stream, batch_tokens, context)
            offset = int(np.random.default_rng([seed, 1]).integers(len(stream))) if self.start == "seed" else 0
            return Batches(stream, batch_tokens, context, lambda step: offset + (step * rows + np.arange(rows)) * context)

        return batches
