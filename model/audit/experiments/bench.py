"""The test bench: the evaluator that is audited, real text to make experiments from, and how texts are altered.

An altered text keeps its length and the positions where documents begin, because honest entries that batch documents know both.
It is mostly altered by other real text that could occur there, so that an evaluator cannot recognise it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from golflab.model.audit.experiments.texts import Text, announced_order
from golflab.model.audit.verdict import Auditable
from golflab.model.isolation.watch import by_input

LEVELS = (64, 512, 4096)  # tokens of the short texts; the whole text comes on top
PER_TEXT = 12  # positions tested in one short text
LEAST_WHOLE, LEAST_SHORT = 8, 4  # positions that are always tested in each kind of text
POOL = 2_000_000  # tokens that real text is taken from, at most
GOLDEN = 0.6180339887498949
CONTROL = 8  # tokens around a document's beginning that are tested more often


class Bench:
    """The evaluator under test, and the texts for it.

    Args:
        evaluator: what is judged.
        documents: all of them, each beginning with BOS.
        text: the documents, or the first of them, that are scored as a whole.
        tolerance: nats by which a score may differ for numerical reasons.
        random: generator of all random choices.

    Attributes:
        nats: (N-1,) scores of the unaltered text, from the very first call.
        settled: (N-1,) how often each was settled.
        seconds: what scoring the text took.
        announced: whether the evaluator has ``order()``, which announces the order in which it scores documents.
        sequential: whether documents are scored in the order of the text, as far as is known.
        steady: whether a second call gives the same scores.
        notes: what a reader should know besides the verdicts.
        tested: positions at which it was checked that the future has no influence.
        whole_tested: those of the whole text, each once.
        whole_compared: those at which the score was compared with the announced probability.
        mass_tested: positions at which it was checked that probabilities sum to one.
        drawn: tokens of made-up text that were scored.
        failed: the error of an evaluator that could not score an altered text.
    """

    def __init__(
        self, evaluator: Auditable, documents: Sequence[np.ndarray], text: Text, tolerance: float, random: np.random.Generator
    ) -> None:
        self.evaluator, self.tolerance, self.random, self.text = evaluator, tolerance, random, text
        self.size, self.bos = int(evaluator.vocabulary), int(documents[0][0])
        self._corpus(documents)
        self.pristine = _copied(evaluator)
        self.isolated = False  # whether every call goes to a fresh copy
        self.announced = hasattr(evaluator, "order")
        self.sequential, self.steady = True, True
        self.notes: list[str] = []
        self.failed = ""
        self.tested, self.mass_tested, self.drawn = 0, 0, 0
        self.whole_tested, self.whole_compared = set[int](), set[int]()
        began = time.monotonic()
        self.nats, self.settled = by_input(evaluator.score(text.tokens.copy()), len(text.tokens) - 1)
        self.seconds = time.monotonic() - began
        self._orders: dict[int, tuple[Text, np.ndarray]] = {}
        self._bases: dict[int, tuple[Text, np.ndarray | None]] = {id(text): (text, self.nats)}

    def _corpus(self, documents: Sequence[np.ndarray]) -> None:
        """Keep real text to alter with, and the frequency of every token in it."""
        kept, size = [], 0
        for document in documents:
            kept.append(np.asarray(document, dtype=np.int64))
            size += len(document)
            if size >= POOL:
                break
        self.real = np.concatenate(kept)
        self.is_begin = np.zeros(len(self.real), dtype=bool)
        self.is_begin[np.cumsum([0, *(len(d) for d in kept[:-1])])] = True
        self.starts = np.flatnonzero(self.is_begin)
        self.pool = self.real[~self.is_begin]
        self.counts = np.bincount(self.pool, minlength=self.size)
        self.known = np.flatnonzero(self.counts)
        self.by_token = np.argsort(self.real, kind="stable")
        self.first_of = np.searchsorted(self.real[self.by_token], np.arange(self.size + 1))

    # ------------------------------------------------------------------ scoring

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """(n,) ids -> (n-1,) nats."""
        evaluator = copy.deepcopy(self.pristine) if self.isolated else self.evaluator
        return by_input(evaluator.score(np.array(tokens, dtype=np.int64)), len(tokens) - 1)[0]

    def tried(self, tokens: np.ndarray) -> np.ndarray | None:
        """`score`, or None where the evaluator raises an error; it is kept in `failed`."""
        try:
            return self.score(tokens)
        except Exception as error:  # the evaluator's code may raise anything
            self.failed = f"{len(tokens):,} tokens: {type(error).__name__}: {error}"
            return None

    def base(self, text: Text) -> np.ndarray | None:
        """Scores of a text as it is, or None where the evaluator raises an error."""
        if id(text) not in self._bases:
            self._bases = {id(self.text): self._bases[id(self.text)], id(text): (text, self.tried(text.tokens))}
        return self._bases[id(text)][1]

    def distribution(self, prefix: np.ndarray) -> np.ndarray | None:
        """Announced probabilities after a prefix: (V,), or None where the evaluator raises an error."""
        evaluator: Any = copy.deepcopy(self.pristine) if self.isolated else self.evaluator
        try:
            return np.asarray(evaluator.distribution(np.array(prefix, dtype=np.int64)), dtype=np.float64)
        except Exception as error:  # an evaluation that drops its tail has no distribution there
            self.failed = f"{len(prefix):,} tokens: {type(error).__name__}: {error}"
            return None

    @property
    def announces(self) -> bool:
        """Whether the evaluator has ``distribution()``, which announces probabilities."""
        return hasattr(self.evaluator, "distribution")

    # ------------------------------------------------------------------ texts

    @property
    def levels(self) -> list[int]:
        """Lengths of the texts that are used, the whole text last."""
        return [length for length in LEVELS if 2 * length <= len(self.text.tokens)] + [len(self.text.tokens)]

    def stretch(self, length: int, at: int | None = None) -> Text:
        """A piece of real text: from a random place on (or from ``at``), over the documents that follow; it begins with BOS."""
        if at is None:
            begins = len(self.starts) and self.random.random() < 0.5
            at = int(self.random.choice(self.starts)) if begins else int(self.random.integers(len(self.real)))
        index = (at + np.arange(length)) % len(self.real)
        tokens, marks = self.real[index].copy(), self.is_begin[index].copy()
        tokens[0], marks[0] = self.bos, True
        return Text(tokens, np.flatnonzero(marks))

    def places(self, text: Text) -> np.ndarray:
        """Positions of tokens in the order in which they are scored: (n,)."""
        if not self.announced:
            return np.arange(len(text.tokens))
        if id(text) not in self._orders:
            order = announced_order(self.evaluator, text)
            ends = np.append(text.begins[1:], len(text.tokens))
            places = np.concatenate([np.arange(text.begins[d], ends[d]) for d in order])
            whole = {key: value for key, value in self._orders.items() if key == id(self.text)}
            self._orders = whole | {id(text): (text, places)}  # the text is kept, or its id could be reused
        return self._orders[id(text)][1]

    # ------------------------------------------------------------------ positions

    def cuts(self, text: Text, count: int) -> Iterator[int]:
        """Ranks from which a text is altered, or where it is cut off; drawn more often where cheating has the largest effect.

        In turn: spread evenly; where one of the two tokens before, or the next one, is rare; near documents' ends.
        For a rank c the score of the token of rank c-1 is tested: the token of rank c must not influence it.
        """
        places, n = self.places(text), len(text.tokens)
        usable = np.flatnonzero(~text.fixed[places])
        usable = usable[usable >= 2]
        if not len(usable):
            return
        rarity = 1 / np.maximum(1, self.counts[text.tokens[places]])
        ends = np.flatnonzero(text.fixed[places])
        spread = self.random.random()
        for number in range(count):
            kind = number % 4
            if kind == 1:
                shifted = rarity[np.maximum(0, usable - self.random.integers(0, 3))]
                yield int(self.random.choice(usable, p=shifted / shifted.sum()))
            elif kind == 3:
                near = int(self.random.choice(ends)) if len(ends) else n
                near = n if near == 0 else near
                near += int(self.random.integers(-CONTROL, CONTROL // 2))
                yield int(usable[min(len(usable) - 1, int(np.searchsorted(usable, max(2, near))))])
            else:
                spread = (spread + GOLDEN) % 1.0
                yield int(usable[int(spread * len(usable))])

    def rounds(self, positions: int, seconds: float) -> Iterator[tuple[Text, int, bool]]:
        """Texts and ranks to test: first short texts, which take little time, then the whole text.

        Args:
            positions: how many in all.
            seconds: after which only the least number in each kind of text is tested.

        Yields:
            text, rank, and whether it is the whole text.
        """
        left, finish = positions, time.monotonic() + seconds
        for number, length in enumerate(self.levels):
            rest, whole = len(self.levels) - number, length == len(self.text.tokens)
            deadline = time.monotonic() + max(0.0, finish - time.monotonic()) / rest
            quota, least, done = -(-left // rest), LEAST_WHOLE if whole else LEAST_SHORT, 0
            while done < quota and (done < least or time.monotonic() < deadline):
                text = self.text if whole else self.stretch(length)
                if self.base(text) is None:
                    break
                before = done
                for cut in self.cuts(text, quota if whole else min(PER_TEXT, quota - done)):
                    if done >= least and time.monotonic() >= deadline:
                        break
                    yield text, cut, whole
                    done += 1
                if done == before:
                    break
            left -= done

    # ------------------------------------------------------------------ altering and comparing

    def altered(self, text: Text, cut: int, how: str = "") -> np.ndarray:
        """The text with tokens of rank ``cut`` and above altered; the first of them is another one.

        Args:
            text: the original.
            cut: rank of the first token altered.
            how: ``real`` uses other real text, ``one`` alters a single token, ``noise`` uses random tokens, ``shuffled``
                permutes the tokens; drawn if not given.
        """
        places = self.places(text)[cut:]
        return self.replaced(text, places[~text.fixed[places]], how)

    def replaced(self, text: Text, places: np.ndarray, how: str = "") -> np.ndarray:
        """The text with the tokens at ``places`` altered; the first of them is another one."""
        how = how or str(self.random.choice(["real", "one", "noise", "shuffled"], p=[0.45, 0.25, 0.2, 0.1]))
        tokens = text.tokens.copy()
        first = places[0]
        old = tokens[first]
        if how == "shuffled":
            tokens[places] = self.random.permutation(tokens[places])
        elif how == "noise":
            tokens[places] = self.random.choice(self.known, len(places))
        else:
            after = self.follower(int(tokens[first - 1]), int(old))
            count = len(places) if how == "real" else 1
            index = (after + np.arange(2 * count + CONTROL)) % len(self.real)
            taken = self.real[index[~self.is_begin[index]]][:count]
            tokens[places[: len(taken)]] = taken
        if tokens[first] == old and len(self.known) > 1:
            tokens[first] = self.random.choice(self.known[self.known != old])
        return tokens

    def follower(self, token: int, other_than: int) -> int:
        """A position in the real text, after an occurrence of ``token``, whose token is not ``other_than``."""
        if 0 <= token < self.size:
            found = self.by_token[self.first_of[token] : self.first_of[token + 1]] + 1
            found = found[found < len(self.real)]
            found = found[(self.real[found] != other_than) & ~self.is_begin[found]]
            if len(found):
                return int(self.random.choice(found))
        return int(self.random.integers(len(self.real)))

    def earlier(self, text: Text, cut: int) -> np.ndarray:
        """Inputs whose scores must not depend on tokens of rank ``cut`` and above, in the order in which they are scored."""
        inputs = self.places(text)[: cut - 1]
        return inputs[inputs < len(text.tokens) - 1]

    def moved(self, new: np.ndarray, old: np.ndarray, factor: float = 1.0) -> tuple[np.ndarray, float]:
        """Indices at which scores differ by more than the tolerance, and the largest difference. NaN is equal to NaN."""
        with np.errstate(invalid="ignore"):
            gap = np.abs(new - old)
        same = (gap <= factor * self.tolerance) | (new == old) | (np.isnan(new) & np.isnan(old))
        which = np.flatnonzero(~same)
        return which, float(np.nan_to_num(gap[which], nan=np.inf).max(initial=0.0))


def _copied(evaluator: Any) -> Any:
    """A copy that has not scored anything yet, or None where it cannot be copied."""
    try:
        return copy.deepcopy(evaluator)
    except Exception:  # copying the evaluator may raise anything
        return None
