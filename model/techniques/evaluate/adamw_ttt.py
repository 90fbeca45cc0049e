"""Test-time training by AdamW: after a chunk is scored, some weights are trained on it; an averaged copy scores."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import nn

from golflab.model.evaluation.adapters import Adapter, ChunkLearner
from golflab.model.network.gpt import GPT
from golflab.model.network.layers import parameters_of
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

# What #849 calls by a name with "scale" in it, under the names of this repository.
CALLED_SCALE = ("scale", "norm", "value_add.shared", "value_add.gains")


@dataclass(frozen=True)
class AdamwTtt(Technique):
    """Score a chunk, then train the last blocks on it with AdamW; a Polyak average of the trained weights scores.

    Chunk c of C trains for ``epochs`` at rate r·½(1+cos(πc/(C-1)))·(1+2·min(c/(0.3C), 1)), the last factor with
    ``ramp``. The loss Σ bytes·nats / Σ bytes weighs long tokens more than the metric does, which adds all alike.
    The average follows every step with decay ``polyak`` from the loaded weights; training continues from the weights that are
    not averaged.

    Attributes:
        rate: r.
        epochs: passes over a chunk.
        chunk: inputs between two trainings.
        rows: sequences a step.
        blocks: how many blocks ``freeze`` is about.
        freeze: ``as_run`` trains only the last ``blocks`` blocks and everything the published code names norm, scale or
            head (branch gains, the scales of bigram and value embedding, an untied output matrix), which is what it
            does; ``as_written`` freezes the first ``blocks`` and trains the rest, as its label says.
        byte_weighted: weigh targets by their bytes.
        polyak: decay of the average; 0 scores with the raw weights.
        ramp: raise the rate threefold over the first 30 % of the chunks.
    """

    slot = "adapt"
    sources = ("#849",)
    doubt = (
        "It was published only with a mixer that has an expert which is no probability distribution; its own effect is unknown."
    )

    rate: float = knob(5e-4, 1e-5, 1e-2, log=True)
    epochs: int = knob(4, 1, 10)
    chunk: int = knob(32_768, 64, 262_144, log=True)
    rows: int = knob(16, 1, 128, log=True)
    blocks: int = knob(2, 1, 16)
    freeze: str = knob("as_run", choices=("as_run", "as_written"))
    byte_weighted: bool = knob(True, choices=(True, False))
    polyak: float = knob(0.998, 0.0, 0.9999)
    ramp: bool = knob(True, choices=(True, False))

    def build(self, shape: Shape, layer: int | None = None) -> Adapter:
        """Return the adapter that learns between chunks."""
        return ChunkLearner(
            context=shape.context,
            chunk=self.chunk,
            choose=self._learning,
            optimizer=lambda learning: torch.optim.AdamW(learning, lr=self.rate, betas=(0.9, 0.999), weight_decay=0.0),
            rate=self._rate,
            epochs=self.epochs,
            rows=self.rows,
            byte_weighted=self.byte_weighted,
            polyak=self.polyak,
        )

    def canonical(self, recipe: Recipe) -> Technique:
        """More blocks than the model has mean all blocks; a step takes at most the sequences of one chunk."""
        sequences = self.chunk // min(recipe.shape.context, self.chunk)
        return self._with(blocks=min(self.blocks, recipe.shape.layers), rows=min(self.rows, sequences))

    def rescale(self, old: Shape, new: Shape) -> AdamwTtt:
        """A chunk stays the same number of training sequences."""
        return dataclasses.replace(self, chunk=min(262_144, max(64, self.chunk * new.context // old.context)))

    def _rate(self, c: int, chunks: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * c / max(1, chunks - 1)))
        return self.rate * cosine * (1 + 2 * min(c / (0.3 * chunks), 1) if self.ramp else 1)

    def _learning(self, model: GPT) -> list[nn.Parameter]:
        """The published rule goes by name, so this one does too: what is called scale or norm, and the output matrix."""
        named = dict(model.named_parameters())
        last = len(model.blocks)
        if self.freeze == "as_written":
            return [named[i.name] for i in parameters_of(model) if i.layer is None or i.layer >= self.blocks]
        return [
            named[info.name]
            for info in parameters_of(model)
            if (info.layer is not None and info.layer >= last - self.blocks)
            or info.role == "head"
            or any(part in info.name for part in CALLED_SCALE)
        ]
