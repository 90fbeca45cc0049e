"""Low-rank corrections of a model's matrices, one set per document of a batch (LoRA, arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from golflab.model.network.gpt import GPT, Block
from golflab.model.network.layers import Weighted


class Place(NamedTuple):
    """Where a correction acts: it reads the input of ``source``, and adds to the output of ``target``, at every visit."""

    source: Weighted
    target: Weighted
    visits: int


class Corrections:
    """One pair (A, B) per place, visit and document: the output gains scale·(x Aᵀ) Bᵀ.

    Args:
        model: whose matrices are corrected.
        targets: names among ``q k v o mlp head``.
        documents: how many documents run side by side.
        rank: r of every pair.
        scale: α/r.
        each: whether every visit of a block has pairs of its own.
        seed: what A is drawn from. All documents begin alike, or a document's start would depend on who is in its group.
    """

    def __init__(
        self, model: GPT, targets: Sequence[str], documents: int, rank: int, scale: float, each: bool, seed: int
    ) -> None:
        device = next(model.parameters()).device
        random = torch.Generator().manual_seed(seed)
        self.scale, self.documents = scale, documents
        self.places = places(model, targets, each)
        self.pairs: list[list[tuple[Tensor, Tensor]]] = []
        for place in self.places:
            rows, columns = place.target.weight.size(0), place.source.weight.size(1)
            self.pairs.append([])
            for _ in range(place.visits):
                a = (torch.rand(rank, columns, generator=random) * 2 - 1) / columns**0.5
                a, b = a.repeat(documents, 1, 1), torch.zeros(documents, rows, rank)
                self.pairs[-1].append((a.to(device).requires_grad_(), b.to(device).requires_grad_()))

    def parameters(self) -> list[Tensor]:
        """All A and B: (documents, r, in) and (documents, out, r)."""
        return [tensor for visits in self.pairs for pair in visits for tensor in pair]

    def a(self) -> list[Tensor]:
        """All A as they are now: (documents, r, in) each."""
        return [a.detach() for visits in self.pairs for a, _ in visits]

    def begin(self, kept: list[Tensor]) -> None:
        """Begin with these A instead of drawn ones; an empty list changes nothing."""
        mine = [a for visits in self.pairs for a, _ in visits]
        with torch.no_grad():
            for a, old in zip(mine, kept, strict=bool(kept)):
                a.copy_(old)

    def narrow(self, count: int, optimizer: torch.optim.Optimizer) -> None:
        """Let go of all documents but the first ``count``, here and in the optimiser, which has all `parameters` in one group.

        A document that has ended would cost as much at every further step as one that goes on.
        """
        (group,), self.documents = optimizer.param_groups, count
        for visits in self.pairs:
            for number, pair in enumerate(visits):
                a, b = (tensor.detach()[:count].clone().requires_grad_() for tensor in pair)
                for old, new in zip(pair, (a, b), strict=True):
                    kept = optimizer.state.pop(old, {})
                    optimizer.state[new] = {key: v[:count].clone() if v.dim() else v for key, v in kept.items()}
                visits[number] = (a, b)
        group["params"] = self.parameters()

    @contextmanager
    def applied(self, count: int) -> Iterator[None]:
        """Correct the products for a batch of the first ``count`` documents."""
        for place, visits in zip(self.places, self.pairs, strict=True):
            _attach(place, [(a[:count], b[:count]) for a, b in visits], self.scale)
        try:
            yield
        finally:
            for place in self.places:
                place.source.delta = place.target.delta = None


def _attach(place: Place, pairs: list[tuple[Tensor, Tensor]], scale: float) -> None:
    """Row i of a batch gets document i's correction: x (n,T,in), y (n,T,out)."""
    source, target, seen = place.source, place.target, list[Tensor]()
    calls = 0

    def correct(x: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        a, b = pairs[calls % len(pairs)]  # one forward pass calls it once per visit
        calls += 1
        low = torch.bmm(x, a.mT.to(x.dtype))
        return y + torch.bmm(low if scale == 1 else low * scale, b.mT.to(x.dtype))

    if source is target:
        target.delta = correct
        return
    inner = source.delta

    def remember(x: Tensor, y: Tensor) -> Tensor:
        seen[:] = [x]
        return y if inner is None else inner(x, y)

    source.delta = remember
    target.delta = lambda x, y: correct(seen.pop(), y)


def places(model: GPT, targets: Sequence[str], each: bool) -> list[Place]:
    """The places that targets name, block by block, the head last.

    Args:
        model: whose blocks are counted, in the order in which they run now.
        targets: names among ``q k v o mlp head``. ``o`` and ``mlp`` read the branch's normalised input.
        each: whether a block that runs several times has that many visits, or one that all share.
    """
    found = []
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        attention, mlp = block.attention, block.mlp
        ends = {
            "q": (attention.query, attention.query),
            "k": (attention.key, attention.key),
            "v": (attention.value, attention.value),
            "o": (attention.query, attention.out),
            "mlp": (mlp.up, mlp.down),
        }
        visits = model.order.count(layer) if each else 1
        found += [Place(*pair, visits) for name, pair in ends.items() if name in targets and visits]
    return found + ([Place(model.output, model.output, 1)] if "head" in targets else [])
