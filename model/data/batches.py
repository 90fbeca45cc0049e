"""Batches: which tokens every optimiser step trains on.

The technique in the slot `batches` decides the order. A technique's ``build(shape)`` returns a function
``(stream, batch_tokens, seed) -> Batches``; `Batches.batch` is random access by step, so that a run resumes at any step
and every data-parallel rank takes its own rows of the same batch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from golflab.model.data.shards import Stream

Starts = Callable[[int], np.ndarray]  # step -> position at which each sequence of the batch begins, (rows,) int64


class Batches:
    """Batches of equal length sequences.

    Args:
        stream: training tokens.
        batch_tokens: targets in a batch, over all ranks; a multiple of ``context``.
        context: positions of a sequence, T.
        starts: step -> (batch_tokens / context,) positions in the stream.

    Raises:
        ValueError: ``batch_tokens`` is no multiple of ``context``, or the stream is shorter than one sequence.
    """

    def __init__(self, stream: Stream, batch_tokens: int, context: int, starts: Starts) -> None:
        self.stream, self.context, self.starts = stream, context, starts
        self.rows = rows_of(stream, batch_tokens, context)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
        """The batch of optimiser step ``step``, counted from 0.

        Args:
            step: any step, in any order.
            rank: which share of the rows.
            world: number of shares; must divide the rows.

        Returns:
            ids and targets, each (rows / world, T) int64; micro-batches are slices of them.
        """
        if self.rows % world:
            raise ValueError(f"batches: {self.rows} sequences a batch cannot be shared by {world} processes; choose a divisor.")
        share = self.rows // world
        starts = self.starts(step)[rank * share : (rank + 1) * share]
        rows = np.stack([self.stream.take(int(start), self.context + 1) for start in starts])
        tokens = torch.from_numpy(rows.astype(np.int64))
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def rows_of(stream: Stream, batch_tokens: int, context: int) -> int:
    """Sequences in a batch, or a ValueError where none fit."""
    if batch_tokens % context:
        raise ValueError(f"batches: batch_tokens={batch_tokens} must be a multiple of context={context}.")
    if len(stream) <= context:
        raise ValueError(
            f"batches: the training text has only {len(stream)} tokens, a sequence needs {context + 1}. Give more text, or a "
            "smaller context."
        )
    return batch_tokens // context


def repetition(stream: Stream, batch_tokens: int, tokens: int | None = None) -> list[str]:
    """A note for the record where the training text is shorter than one batch, so that every batch repeats it.

    Args:
        stream: training tokens.
        batch_tokens: targets in a batch.
        tokens: training tokens in all, or None where the clock ends the run.
    """
    if len(stream) >= batch_tokens:
        return []
    whole = "" if tokens is None else f", and the whole training {tokens / len(stream):,.0f} times"
    return [
        f"The training text has {len(stream):,} tokens, fewer than a batch of {batch_tokens:,}: a batch reads it "
        f"{batch_tokens / len(stream):,.1f} times{whole}."
    ]
