"""The model's distribution tilted towards the token that has followed the same context before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from golflab.model.data.tokenizer import Tokenizer
from golflab.model.evaluation.mixing import Mixer
from golflab.model.evaluation.reader import Side
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

NONE = -1  # where no token is hinted at


@dataclass(frozen=True)
class NgramTilt(Technique):
    """Raise the logit of the token that mostly followed the same last tokens in the text scored so far.

    The context of a target is the ``order`` tokens before it, exactly. If a token h followed at least the share ``share`` of
    the earlier occurrences of that context, it is the hint, and p'(a) = p(a)·exp(β[a = h]) / (1 + p(h)(exp(β) − 1)), which
    sums to one. Without a hint p' = p. Contexts follow the text and may reach back beyond the beginning of a document. In
    #2135 1.3 % of the positions had a hint.

    Attributes:
        experts: ``tokens`` is as above. ``as_published`` adds two experts of #1420's kind where that one gives no hint: the
            first knows what followed the beginning of the word, and is asked if the target **continues** the word; the second
            knows what followed the last word, and is asked if the target **begins** one. Which of them is asked depends on
            the target, so these are no probabilities; it exists to be measured, and the audit flags it.
        order: tokens of a context.
        share: smallest share of a hint.
        beta: β, nats that are added to its logit.
    """

    slot = "mixer"
    sources = ("#1514", "#2135", "#2140", "#1420 (experts=as_published)")
    doubt = (
        "About −0.0006 bpb (#2140 against #2014, 3 seeds each, together with another change). With `experts=as_published` it "
        "uses the target to predict the target, as #1420 and #1967 did."
    )

    experts: str = knob("tokens", choices=("tokens", "as_published"), faults=("as_published",))
    order: int = knob(15, 1, 32)
    share: float = knob(0.8, 0.5, 1.0)
    beta: float = knob(2.625, 0.1, 8.0)

    def build(self, shape: Shape, layer: int | None = None) -> Mixer:
        """Return what tilts a scored text."""
        return _Tilt(self)


class _Tilt(Mixer):
    """Finds the hints, has the reader look up their probabilities, and charges for what came."""

    def __init__(self, settings: NgramTilt) -> None:
        self.settings = settings
        self.leaks = settings.experts == "as_published"
        self.begins: np.ndarray | None = None  # (V,) whether a token begins a word

    def begin(self, tokenizer: Tokenizer) -> None:
        """Note which tokens begin a word: those that begin with a space, and those that stand for no text."""
        if self.leaks:
            self.begins = np.array([not spelled or spelled.startswith(b" ") for spelled in tokenizer.spelling()])

    def side(self, tokens: np.ndarray) -> Side:
        """Nats of the hint at every input; 0 where there is none."""
        hints = torch.from_numpy(self.hints(tokens))

        def find(logits: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
            hint = hints[inputs].to(logits.device)
            wanted = logits.gather(-1, hint.clamp(min=0)[..., None]).squeeze(-1)
            return (logits.double().logsumexp(-1) - wanted.double()) * (hint != NONE)

        return find

    def mix(self, tokens: np.ndarray, nats: np.ndarray, side: np.ndarray) -> np.ndarray:
        """See `Mixer.mix`."""
        hints = self.hints(tokens)
        gained = self.settings.beta * (hints == tokens[1:])
        paid = np.log1p(np.exp(-side) * np.expm1(self.settings.beta))
        return np.where(hints == NONE, nats, nats - gained + paid)

    def distribution(self, tokens: np.ndarray, nats: np.ndarray, side: np.ndarray, neural: np.ndarray) -> np.ndarray:
        """See `Mixer.distribution`."""
        if self.begins is None:
            return self._tilted(neural, int(self.hints(tokens)[-1]))
        found = neural.copy()
        for kind in (True, False):  # what is charged for a token depends on what kind of token it is
            some = int(np.flatnonzero(self.begins == kind)[0]) if (self.begins == kind).any() else 0
            hint = int(self.hints(np.append(tokens[:-1], some))[-1])
            found = np.where(self.begins == kind, self._tilted(neural, hint), found)
        return found

    def _tilted(self, neural: np.ndarray, hint: int) -> np.ndarray:
        if hint == NONE:
            return neural
        raised = neural.copy()
        raised[hint] *= np.exp(self.settings.beta)
        return raised / (1 + neural[hint] * np.expm1(self.settings.beta))

    def hints(self, tokens: np.ndarray) -> np.ndarray:
        """The hint at every input of a text (N,), or `NONE`: (N-1,). Hints of ``tokens`` depend on earlier tokens only."""
        ids = np.asarray(tokens, dtype=np.int64)
        found = leaders(contexts(ids, self.settings.order), ids[1:], self.settings.share)
        if self.begins is None:
            return found
        begins = self.begins[ids[1:]]  # of the target, which nothing should know yet
        words = self._words(ids)
        for asked in (~begins, begins):
            more = leaders(np.where(asked, words, NONE), ids[1:], self.settings.share)
            found = np.where((found == NONE) & asked, more, found)
        return found

    def _words(self, ids: np.ndarray) -> np.ndarray:
        """The number of the word so far at every input (N-1,), equal for equal ones; it is whole if the target begins one."""
        assert self.begins is not None
        known: dict[tuple[int, ...], int] = {}
        word: tuple[int, ...] = ()
        numbers = np.empty(len(ids) - 1, dtype=np.int64)
        for at, token in enumerate(ids[:-1].tolist()):
            word = (token,) if self.begins[token] else (*word, token)
            numbers[at] = known.setdefault(word, len(known))
        return numbers


def contexts(ids: np.ndarray, order: int) -> np.ndarray:
    """A number for the last ``order`` tokens at every input of a text (N,), equal for equal ones; `NONE` where they are fewer.

    Contexts of n tokens are numbered by the pairs of the number of the first n-1 and the last token.
    """
    numbers, last = ids[:-1], ids[:-1]
    for _ in range(order - 1):
        pairs = numbers[:-1] * (int(ids.max(initial=0)) + 1) + last[1:]
        last = last[1:]
        numbers = np.unique(pairs, return_inverse=True)[1].reshape(-1)
        if not len(numbers):
            break
    return np.concatenate([np.full(len(ids) - 1 - len(numbers), NONE, dtype=np.int64), numbers])


def leaders(keys: np.ndarray, targets: np.ndarray, share: float) -> np.ndarray:
    """What mostly followed the same key before: (n,) tokens, or `NONE` where nothing had at least this share of it.

    Args:
        keys: (n,) numbers of contexts; nothing is known of `NONE`.
        targets: (n,) what followed each of them.
        share: smallest share, at least a half. Of two with equal counts, the one that had it first leads.
    """
    found = np.full(len(keys), NONE, dtype=np.int64)
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero((counts[inverse.reshape(-1)] > 1) & (keys != NONE))
    seen: dict[int, dict[int, int]] = {}
    best: dict[int, tuple[int, int, int]] = {}  # key -> leader, its count, count of the key
    for at, key, target in zip(repeated.tolist(), keys[repeated].tolist(), targets[repeated].tolist(), strict=True):
        leader, most, total = best.get(key, (NONE, 0, 0))
        if total and most >= share * total:
            found[at] = leader
        counts_of = seen.setdefault(key, {})
        count = counts_of[target] = counts_of.get(target, 0) + 1
        best[key] = (target, count, total + 1) if count > most else (leader, most, total + 1)
    return found
