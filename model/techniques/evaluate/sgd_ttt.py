"""Test-time training by SGD: after a chunk is scored, the model is trained on it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import nn

from golflab.model.evaluation.adapters import Adapter, ChunkLearner
from golflab.model.network.gpt import GPT
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class SgdTtt(Technique):
    """Score a chunk, then train on it for some epochs with momentum SGD, then score the next with what was learned.

    Chunk c of C (32,768 inputs) is trained on as side-by-side sequences of T, at rate r·½(1+cos(πc/(C-1))), the
    gradient's norm clipped to 1; nothing is trained on the last chunk. The first ``freeze`` blocks stay as they are, all else
    learns, tables included. What was learned carries over from chunk to chunk, and ends with the text.

    Attributes:
        rate: r.
        epochs: passes over a chunk.
        chunk: inputs between two trainings.
        rows: sequences a step.
        momentum: of SGD.
        freeze: blocks from the bottom that do not learn.
    """

    slot = "adapt"
    sources = ("#549", "#461")
    doubt = "Gain of 0.0017 to 0.0026 bpb on good models, 0.0165 on a weak one, none after full GPTQ (#670, #756)."

    rate: float = knob(0.002, 1e-4, 0.1, log=True)
    epochs: int = knob(3, 1, 10)
    chunk: int = knob(32_768, 64, 262_144, log=True)
    rows: int = knob(32, 1, 128, log=True)
    momentum: float = knob(0.9, 0.0, 0.99)
    freeze: int = knob(2, 0, 16)

    def build(self, shape: Shape, layer: int | None = None) -> Adapter:
        """Return the adapter that learns between chunks."""

        def choose(model: GPT) -> list[nn.Parameter]:
            still = {id(p) for block in model.blocks[: self.freeze] for p in block.parameters()}
            return [p for p in model.parameters() if id(p) not in still]

        return ChunkLearner(
            context=shape.context,
            chunk=self.chunk,
            choose=choose,
            optimizer=lambda learning: torch.optim.SGD(learning, lr=self.rate, momentum=self.momentum),
            rate=lambda c, chunks: self.rate * 0.5 * (1 + math.cos(math.pi * c / max(1, chunks - 1))),
            epochs=self.epochs,
            rows=self.rows,
        )

    def canonical(self, recipe: Recipe) -> Technique:
        """More blocks than the model has mean all blocks; a step takes at most the sequences of one chunk."""
        sequences = self.chunk // min(recipe.shape.context, self.chunk)
        return self._with(freeze=min(self.freeze, recipe.shape.layers), rows=min(self.rows, sequences))

    def rescale(self, old: Shape, new: Shape) -> SgdTtt:
        """A chunk stays the same number of training sequences."""
        return dataclasses.replace(self, chunk=min(262_144, max(64, self.chunk * new.context // old.context)))
