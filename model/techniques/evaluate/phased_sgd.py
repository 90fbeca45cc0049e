"""Test-time training of all weights, in a few phases, on the documents that have been scored so far."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from golflab.model.evaluation.adapters import Adapter, borrowed
from golflab.model.evaluation.documents import DocumentWalk, mixer_in_the_way
from golflab.model.evaluation.reader import Reader, Scored, Text
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

CLIP = 1.0  # largest norm of all gradients together


@dataclass(frozen=True)
class PhasedSgd(Technique):
    """Score the longest documents, train all weights on them by SGD, and score the others with what was learned.

    Documents are queued, the longest first. N is ``share`` of their number, rounded, at least 1. After N·i/P documents of the
    queue (i = 1 … P) the weights are trained on all documents scored so far: these are laid one after another in the order of
    the queue and cut into chunks of C inputs; one pass, at rate r·½(1 + cos(πc/(chunks − 1))) in chunk c, momentum SGD that
    begins anew in every phase, the gradient's norm clipped to 1. A step takes ``rows``·T inputs of a chunk. A training
    sequence ends where its document ends, and after T inputs, so that no document is read with another one in front of it.

    It works together with `lora_ttt`, whose adapters are not in place while the weights are trained. Without that technique the
    windows must be isolated. Scores are causal in the order of the queue and not in that of the text; the evaluator announces
    that order.

    Attributes:
        share: of the documents that are trained on.
        phases: P.
        rate: r.
        momentum: of SGD.
        chunk: C.
        rows: sequences of T inputs that a step takes.
    """

    slot = "adapt_all"
    sources = ("#1610", "#1626", "#1855", "#2014")
    doubt = (
        "−0.0006 bpb over per-document adapters alone (#1610, 3 seeds against 3); three phases −0.0008 over one in one seed "
        "(#1626), and the two best accepted entries use one. Its score is no code length in the order of the text."
    )
    clashes = {
        "sgd_ttt": "it learns chunk by chunk in the order of the text, and this one document by document, the longest first.",
        "adamw_ttt": "it learns chunk by chunk in the order of the text, and this one document by document, the longest first.",
    }

    share: float = knob(0.05, 0.001, 1.0, log=True)
    phases: int = knob(1, 1, 8)
    rate: float = knob(0.001, 1e-5, 0.1, log=True)
    momentum: float = knob(0.9, 0.0, 0.99)
    chunk: int = knob(32_768, 64, 262_144, log=True)
    rows: int = knob(32, 1, 128, log=True)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Adapter], Adapter]:
        """Return ``local -> adapter``: the walk that scores documents, and the one that trains between them."""

        def around(local: Adapter) -> Adapter:
            return _Phased(self, shape.context, local if isinstance(local, DocumentWalk) else DocumentWalk())

        return around

    def check(self, recipe: Recipe) -> str | None:
        """Documents must be read one by one, in the order of the queue."""
        local, windows = recipe.technique_in("adapt"), recipe.technique_in("windows")
        if getattr(local, "reset", "") == "never":
            return "lora_ttt:reset=never scores documents in the order of the text, and this one the longest first."
        if local is None and not getattr(windows, "isolated", False):
            return "its windows must not read other documents. Add `chunked:isolated=true` or a `lora_ttt`."
        return mixer_in_the_way(recipe)

    def canonical(self, recipe: Recipe) -> Technique:
        """A step takes at most the sequences of one chunk."""
        return self._with(rows=max(1, min(self.rows, -(-self.chunk // recipe.shape.context))))

    def rescale(self, old: Shape, new: Shape) -> PhasedSgd:
        """A chunk stays the same number of training sequences."""
        return dataclasses.replace(self, chunk=min(262_144, max(64, self.chunk * new.context // old.context)))

    def pauses(self, documents: int) -> tuple[int, ...]:
        """After how many documents of the queue the weights are trained; none after the last, from which nothing could gain."""
        most = max(1, round(self.share * documents))
        ends = {most * (i + 1) // self.phases for i in range(self.phases)}
        return tuple(sorted(end for end in ends if 0 < end < documents))


class _Phased(Adapter):
    """A walk through documents that stops to train all weights.

    Args:
        settings: the technique.
        context: longest training sequence.
        local: the walk.
    """

    announces = True

    def __init__(self, settings: PhasedSgd, context: int, local: DocumentWalk) -> None:
        self.settings, self.context, self.local = settings, context, local

    def queue(self, lengths: np.ndarray) -> np.ndarray:
        """See `Adapter.queue`."""
        return self.local.queue(lengths)

    def walk(self, reader: Reader, plan: np.ndarray, skip: int = 0, state: dict[str, Tensor] | None = None) -> Iterator[Scored]:
        """See `Adapter.walk`; a stretch is a group of documents, and no group goes beyond a pause."""
        documents = self.local.queued(reader.text)
        self.local.pauses = self.settings.pauses(len(documents))
        ends = np.cumsum([len(group) for group in self.local.groups(documents)])
        self.learning, stored = list(reader.model.parameters()), dict(state or {})
        mine = {name.removeprefix("local."): t for name, t in stored.items() if name.startswith("local.")}
        with borrowed(reader.model, self.learning):
            if stored:
                with torch.no_grad():
                    for number, p in enumerate(self.learning):
                        p.copy_(stored[f"weight.{number}"])
            for number, scored in enumerate(self.local.walk(reader, plan, skip, mine), skip):
                if ends[number] in self.local.pauses:
                    self._train(reader, documents[: ends[number]])
                yield scored

    def state(self) -> dict[str, Tensor]:
        """The weights, and what the walk keeps."""
        weights = {f"weight.{number}": p.detach().clone() for number, p in enumerate(self.learning)}
        return weights | {f"local.{name}": tensor for name, tensor in self.local.state().items()}

    def _train(self, reader: Reader, documents: np.ndarray) -> None:
        """One pass over scored documents (n, 2). The walk waits meanwhile, with all weights frozen and no corrections."""
        own = self.settings
        order = np.concatenate([np.arange(begin, end) for begin, end in documents])
        chunks = -(-len(order) // own.chunk)
        for p in self.learning:
            p.requires_grad_(True)
        sgd = torch.optim.SGD(self.learning, lr=own.rate, momentum=own.momentum)
        for number in range(chunks):
            sgd.param_groups[0]["lr"] = own.rate * 0.5 * (1 + math.cos(math.pi * number / max(1, chunks - 1)))
            chunk = order[number * own.chunk : (number + 1) * own.chunk]
            for first in range(0, len(chunk), own.rows * self.context):
                self._step(reader, sgd, sequences(reader.text, chunk[first : first + own.rows * self.context], self.context))
        for p in self.learning:
            p.requires_grad_(False)
            p.grad = None

    @torch.enable_grad()
    def _step(self, reader: Reader, sgd: torch.optim.SGD, rows: np.ndarray) -> None:
        """One step on the mean loss of sequences (n, 2): first input and end."""
        at = rows[:, :1] + np.arange((rows[:, 1] - rows[:, 0]).max())
        inside = np.minimum(at, reader.text.inputs - 1)
        ids, targets = (torch.from_numpy(reader.text.tokens[inside + shift]).to(reader.device) for shift in (0, 1))
        real = torch.from_numpy(at < rows[:, 1:]).to(reader.device)
        loss = (reader.model.nats(ids, targets) * real).sum() / real.sum()
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.learning, CLIP)
        sgd.step()


def sequences(text: Text, inputs: np.ndarray, context: int) -> np.ndarray:
    """Cut inputs (n,), which follow the queue, where a document begins and after every ``context`` inputs of one: (rows, 2)."""
    fresh = np.isin(inputs, text.begins)
    fresh[1:] |= np.diff(inputs) != 1
    fresh[0] = True
    starts = np.flatnonzero(fresh)
    ends = np.append(starts[1:], len(inputs))
    return np.array(
        [(inputs[k], inputs[min(k + context, end) - 1] + 1) for start, end in zip(starts, ends, strict=True)
         for k in range(start, end, context)]
    )  # fmt: skip
