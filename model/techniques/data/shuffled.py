"""Sequences in a seeded random order, every one once before any comes again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from golflab.model.data.batches import Batches, rows_of
from golflab.model.data.shards import BOS, Stream
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class Shuffled(Technique):
    """Visit the training sequences in random order, so that neighbours in a batch come from different texts.

    This is the default, because a corpus may be sorted. The embedded corpus is sorted by date: read in order, the low learning
    rates at the end of the run would all meet speeches of one decade. The challenge's shards hold shuffled documents; use
    `sequential` for them.

    The text is cut into n = (N-1-phase) // T sequences with a random phase. The k-th sequence of an epoch is the permuted
    k-th, or number (offset + k·stride) mod n with a random stride coprime to n. The latter needs no memory and keeps
    sequences of one text far apart. Every sequence comes once per epoch, and every epoch has its own order.

    Attributes:
        order: ``permuted`` or ``coprime``.
        documents: cut the text anew at the beginning of every document, so that no sequence begins inside an unknown
            one; the last sequence of a document then runs on into the next.
    """

    slot = "batches"
    sources = ("openai/parameter-golf, permuted sequence starts and coprime strides of later records",)

    order: str = knob("permuted", choices=("permuted", "coprime"))
    documents: bool = knob(False, choices=(False, True))

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Stream, int, int], Batches]:
        """Return ``(stream, batch_tokens, seed) -> Batches``."""
        context = shape.context

        def batches(stream: Stream, batch_tokens: int, seed: int) -> Batches:
            rows = rows_of(stream, batch_tokens, context)
            begins = _document_begins(stream, context) if self.documents else None
            phase = int(np.random.default_rng([seed, 2]).integers(min(context, len(stream) - context)))
            count = len(begins) if begins is not None else (len(stream) - 1 - phase) // context
            visit = _Order(count, seed, self.order)

            def starts(step: int) -> np.ndarray:
                index = visit(step * rows + np.arange(rows))
                return begins[index] if begins is not None else phase + index * context

            return Batches(stream, batch_tokens, context, starts)

        return batches


class _Order:
    """The k-th sequence to visit, for any k: a new order every ``count``."""

    def __init__(self, count: int, seed: int, kind: str) -> None:
        self.count, self.seed, self.kind = count, seed, kind
        self.epoch, self.permutation = -1, np.zeros(0, dtype=np.int64)

    def __call__(self, k: np.ndarray) -> np.ndarray:
        """(n,) int64 running numbers -> (n,) int64 sequences."""
        epochs, within = np.divmod(k, self.count)
        return np.concatenate([self._visit(int(e), within[epochs == e]) for e in np.unique(epochs)])

    def _visit(self, epoch: int, k: np.ndarray) -> np.ndarray:
        random = np.random.default_rng([self.seed, 3, epoch])
        if self.kind == "coprime":
            offset, stride = (int(x) for x in random.integers(1, self.count + 1, size=2))
            while math.gcd(stride, self.count) != 1:
                stride += 1
            return (offset + k * stride) % self.count
        if epoch != self.epoch:
            self.epoch, self.permutation = epoch, random.permutation(self.count)
        return self.permutation[k]


def _document_begins(stream: Stream, context: int) -> np.ndarray:
    """Positions at which the sequences begin when every document is cut from its own beginning."""
    begins = stream.where(BOS)
    if not len(begins):
        raise ValueError(f"shuffled: documents=true, but no document in the training text begins with BOS (id {stream.bos}).")
    ends = np.append(begins[1:], len(stream))
    return np.concatenate([np.arange(begin, end, context) for begin, end in zip(begins, ends, strict=True)])
