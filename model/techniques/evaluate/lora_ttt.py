"""Test-time training of a small adapter per document, on the part of the document that has been scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from golflab.model.evaluation.adapters import Adapter, borrowed
from golflab.model.evaluation.reader import Reader, Scored
from golflab.model.network.gpt import GPT, Attention
from golflab.model.network.layers import Weighted
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Knob, Technique, knob


@dataclass(frozen=True)
class LoraTtt(Technique):
    """Give every document low-rank corrections of Q, V and the head, trained on its own scored text.

    A document is cut into chunks; chunk k is read in the window of T inputs that ends where it ends, (k+1)·chunk or the
    document's end, never across the document's beginning, and scored; then one Adam step on the chunk's mean loss. The
    correction of a matrix W (out,in) is y ← y + (x Aᵀ) Bᵀ with A (r,in) ~ U(±1/√in) and B (out,r) = 0, one pair per document.
    ``batch`` documents are scored side by side, independently of each other. This technique cuts its own windows; those of the
    slot `windows` are not used.

    Attributes:
        rank: r.
        rate: of Adam (β 0.9, 0.95; ε 1e-10).
        chunk: inputs scored between two steps.
        batch: documents side by side.
        targets: which matrices are corrected.
        reset: ``document`` begins every document with fresh adapters; ``never`` carries them on in the order of the text,
            one document at a time.
    """

    slot = "adapt"
    sources = ("#77", "#211")
    doubt = (
        "Of the gain of 0.034 bpb published with it, 0.031 come from document isolation and strided windows (#77); in #211 it "
        "scored worse "
        "than plain sliding windows, because its chunks have less context."
    )

    rank: int = knob(8, 1, 64, log=True)
    rate: float = knob(0.01, 1e-4, 0.1, log=True)
    chunk: int = knob(256, 16, 2048, log=True)
    batch: int = knob(64, 1, 256, log=True, speed=True)
    targets: str = knob("q_v_head", choices=("q_v_head", "q_v", "head"))
    reset: str = knob("document", choices=("document", "never"))

    def build(self, shape: Shape, layer: int | None = None) -> Adapter:
        """Return the adapter that goes from document to document."""
        return _DocumentWalk(self, shape.context)

    def check(self, recipe: Recipe) -> str | None:
        """A chunk must fit the context, and only a chosen order of documents can be carried on."""
        if self.chunk > recipe.shape.context:
            return f"chunk={self.chunk} is longer than context={recipe.shape.context}; it must be at most that."
        if self.reset == "never" and self.batch > 1:
            return "reset=never carries adapters from one document to the next; that needs batch=1."
        return None

    @classmethod
    def ranges(cls, bare: Recipe) -> dict[str, Knob]:
        """A chunk is at most the context."""
        return super().ranges(bare) | {"chunk": Knob(16, max(17, min(2048, bare.shape.context)), log=True)}

    def rescale(self, old: Shape, new: Shape) -> LoraTtt:
        """Keep the chunk's share of the context."""
        return dataclasses.replace(self, chunk=max(16, min(2048, self.chunk * new.context // old.context)))


class _Adapters:
    """One pair (A, B) per corrected matrix and document.

    Args:
        model: whose matrices are corrected.
        targets: see `LoraTtt`.
        documents: how many documents run side by side.
        rank: of every pair.
        seed: what A is drawn from.
    """

    def __init__(self, model: GPT, targets: str, documents: int, rank: int, seed: int) -> None:
        device = next(model.parameters()).device
        random = torch.Generator().manual_seed(seed)
        self.pairs: list[tuple[Weighted, Tensor, Tensor]] = []
        for matrix in _matrices(model, targets):
            rows, columns = matrix.weight.shape
            a = (torch.rand(rank, columns, generator=random) * 2 - 1) / columns**0.5
            a = a.repeat(documents, 1, 1)  # all begin alike, or a document's start would depend on who is in its group
            b = torch.zeros(documents, rows, rank)
            self.pairs.append((matrix, a.to(device).requires_grad_(), b.to(device).requires_grad_()))

    def parameters(self) -> list[Tensor]:
        """All A and B."""
        return [tensor for _, a, b in self.pairs for tensor in (a, b)]

    @contextmanager
    def applied(self, count: int) -> Iterator[None]:
        """Correct the products for a batch of the first ``count`` documents."""
        for matrix, a, b in self.pairs:
            matrix.delta = partial(_correct, a[:count], b[:count])
        try:
            yield
        finally:
            for matrix, _, _ in self.pairs:
                matrix.delta = None


def _correct(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Row i of the batch gets document i's correction: x (n,T,in), y (n,T,out)."""
    return y + torch.bmm(torch.bmm(x, a.mT.to(x.dtype)), b.mT.to(x.dtype))


def _matrices(model: GPT, targets: str) -> list[Weighted]:
    found: list[Weighted] = []
    if targets != "head":
        found += [matrix for m in model.modules() if isinstance(m, Attention) for matrix in (m.query, m.value)]
    return found + ([model.output] if targets != "q_v" else [])


class _DocumentWalk(Adapter):
    """Documents in groups, the longest first, every group chunk by chunk."""

    def __init__(self, settings: LoraTtt, context: int) -> None:
        self.settings, self.context = settings, context

    def walk(self, reader: Reader, plan: np.ndarray, skip: int = 0, state: dict[str, Tensor] | None = None) -> Iterator[Scored]:
        """See `Adapter.walk`; a stretch is a group of documents."""
        edges = np.unique([0, *(b for b in reader.text.begins if b < reader.text.inputs), reader.text.inputs])
        documents = np.stack([edges[:-1], edges[1:]], axis=1)  # (documents, 2): first input, end
        carry = self.settings.reset == "never"
        if not carry:
            chunks = -(-(documents[:, 1] - documents[:, 0]) // self.settings.chunk)
            documents = documents[np.argsort(-chunks, kind="stable")]
        learner = None
        with borrowed(reader.model, []):
            for number, start in enumerate(range(0, len(documents), self.settings.batch)):
                if number < skip and not carry:
                    continue
                group = documents[start : start + self.settings.batch]
                learner = learner if carry and learner else self._learner(reader.model, len(group))
                scored = _joined(list(self._group(reader, group, *learner)))
                if number >= skip:
                    yield scored

    def _learner(self, model: GPT, documents: int) -> tuple[_Adapters, torch.optim.Adam]:
        adapters = _Adapters(model, self.settings.targets, documents, self.settings.rank, seed=0)
        return adapters, torch.optim.Adam(adapters.parameters(), lr=self.settings.rate, betas=(0.9, 0.95), eps=1e-10)

    def _group(self, reader: Reader, group: np.ndarray, adapters: _Adapters, adam: torch.optim.Adam) -> Iterator[Scored]:
        """Score chunk 0 of all documents, learn, score chunk 1 of those that have one, and so on."""
        size = self.settings.chunk
        lengths = group[:, 1] - group[:, 0]
        for k in range(int(-(-lengths.max() // size))):
            going = int((lengths > k * size).sum())  # the longest come first
            begin, end = group[:going, 0], group[:going, 1]
            first, last = begin + k * size, np.minimum(begin + (k + 1) * size, end)
            windows = np.stack([np.maximum(begin, last - self.context), last, first], axis=1)
            learning = int((lengths > (k + 1) * size).sum()) if self.settings.reset == "document" else going
            with adapters.applied(going), torch.set_grad_enabled(learning > 0):
                nats, entropy = reader.nats(windows, int((last - windows[:, 0]).max()))
                scored = reader.settle(windows, nats, entropy)
                if learning:
                    real = torch.from_numpy(first[:, None] + np.arange(nats.size(1)) < last[:, None]).to(nats.device)
                    means = (nats * real).sum(1) / real.sum(1)
                    adam.zero_grad(set_to_none=True)
                    means[:learning].sum().backward()
                    adam.step()
            yield scored


def _joined(parts: list[Scored]) -> Scored:
    entropy = None if parts[0].entropy is None else np.concatenate([p.entropy for p in parts if p.entropy is not None])
    return Scored(np.concatenate([p.inputs for p in parts]), np.concatenate([p.nats for p in parts]), entropy)
