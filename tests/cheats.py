"""Small honest evaluators, and the cheats the audit must catch. For tests and `benchmarks.audit_power` only.

`HONEST` and `CHEATS` list them with what the audit should say. All predict made-up text of 24 kinds of token, see `text`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

VOCABULARY = 24
RARE = 20  # ids from here on are rare
BOS = 1


TOKENS = 1_500  # of the text that cheats are judged on; some act only far into it, or where there is so much


def text(tokens=TOKENS, seed=0):
    """Documents of 40 to 300 tokens with something to learn in them: most tokens are followed by one of three."""
    random = np.random.default_rng(seed)
    documents, left = [], tokens
    while left > 0:
        length = int(min(left, random.integers(40, 300)))
        length = length if left - length >= 40 else left
        jumps, steps = random.random(length), random.integers(0, 3, length)
        rare, document = random.integers(RARE, VOCABULARY, length), [BOS, 5]
        for i in range(2, length):
            document.append(int(rare[i]) if jumps[i] < 0.03 else int(2 + (document[-1] * 3 + steps[i]) % (RARE - 2)))
        documents.append(np.array(document[:length]))
        left -= length
    return documents


def decode(tokens):
    """Every token but BOS is one letter."""
    return "x" * int((np.asarray(tokens) != BOS).sum())


@functools.cache
def table():
    """Probabilities (V, V) of the next token, learned from other text."""
    tokens = np.concatenate(text(60_000, seed=12345))
    counts = np.full((VOCABULARY, VOCABULARY), 0.05)
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    return counts / counts.sum(1, keepdims=True)


def picked(rows, tokens):
    """Nats of the targets under rows (N-1, V) of probabilities."""
    return -np.log(rows[np.arange(len(tokens) - 1), tokens[1:]])


class Fixed:
    """The table, whatever comes. Cheats change its rows."""

    vocabulary = VOCABULARY

    def rows(self, tokens):
        return table()[tokens[:-1]]

    def score(self, tokens):
        return picked(self.rows(tokens), tokens)

    def count_bytes(self, tokens):
        return np.where(np.asarray(tokens)[1:] == BOS, 0, 1)


class FixedAnnouncing(Fixed):
    """The same, and says its probabilities beforehand."""

    def distribution(self, prefix):
        return table()[prefix[-1]]


class Honest:
    """Bigram counts of the text so far, updated after every token."""

    vocabulary = VOCABULARY

    def score(self, tokens):
        counts = self.start()
        nats = np.zeros(len(tokens) - 1)
        for i in range(len(tokens) - 1):
            nats[i] = -np.log(self.probabilities(counts, tokens, i)[tokens[i + 1]])
            counts[tokens[i], tokens[i + 1]] += 1
        return nats

    def start(self):
        return np.full((VOCABULARY, VOCABULARY), 0.1)

    def probabilities(self, counts, tokens, i):
        return counts[tokens[i]] / counts[tokens[i]].sum()

    def count_bytes(self, tokens):
        return np.where(np.asarray(tokens)[1:] == BOS, 0, 1)


class Announcing(Honest):
    """The same, and says its probabilities beforehand."""

    def distribution(self, prefix):
        counts = self.start()
        np.add.at(counts, (prefix[:-1], prefix[1:]), 1)
        return self.probabilities(counts, np.append(prefix, 0), len(prefix) - 1)


# ---------------------------------------------------------------------- honest


class DropsTail(Fixed):
    """Reads windows of 32 inputs and leaves the last, incomplete one unscored."""

    def score(self, tokens):
        nats = super().score(tokens)
        nats[len(nats) // 32 * 32 :] = np.nan
        return nats


class Windows(Fixed):
    """Counts what it has seen within the last 16 to 32 tokens, in windows that move by 16."""

    def rows(self, tokens):
        rows = super().rows(tokens).copy()
        for i in range(len(rows)):
            seen = tokens[max(0, i // 16 - 1) * 16 : i + 1]
            rows[i] = 0.9 * rows[i] + 0.1 * (np.bincount(seen, minlength=VOCABULARY) + 0.1) / (len(seen) + 0.1 * VOCABULARY)
        return rows


class ScoresFirst(Fixed):
    """Test-time training: scores a chunk, then learns it, then scores the next."""

    chunk = 100

    def rows(self, tokens):
        counts, parts = 20 * table(), []
        for first in range(0, len(tokens) - 1, self.chunk):
            here = np.arange(first, min(first + self.chunk, len(tokens) - 1))
            parts.append(counts[tokens[here]] / counts[tokens[here]].sum(1, keepdims=True))
            self.learn(counts, tokens, here)
        return np.concatenate(parts)

    def learn(self, counts, tokens, here):
        np.add.at(counts, (tokens[here], tokens[here + 1]), 1)


class Scheduled(ScoresFirst):
    """The same, and learns less and less towards the end, whose place it knows: an honest cosine."""

    def rows(self, tokens):
        self.total = len(tokens)
        return super().rows(tokens)

    def learn(self, counts, tokens, here):
        rate = 0.5 * (1 + np.cos(np.pi * here[0] / self.total))
        np.add.at(counts, (tokens[here], tokens[here + 1]), rate)


class PerDocument(ScoresFirst):
    """Learns within every document, in chunks of 16, and forgets at its end."""

    chunk = 16

    def rows(self, tokens):
        begins = np.flatnonzero(tokens == BOS)
        parts = np.split(tokens, begins[begins > 0])
        return np.concatenate([super(PerDocument, self).rows(np.append(part, 0)) for part in parts])[: len(tokens) - 1]


def longest_first(documents):
    """Numbers of documents, the longest first."""
    return np.argsort([-len(d) for d in documents], kind="stable")


class LongestFirstSilently(Fixed):
    """Scores the longest document first, learns it, scores the next."""

    def rows(self, tokens):
        begins = np.flatnonzero(tokens == BOS)
        begins = begins if len(begins) and begins[0] == 0 else np.append(0, begins)
        parts, rows = np.split(tokens, begins[1:]), np.zeros((len(tokens), VOCABULARY))
        counts = 20 * table()
        for number in longest_first(parts):
            begin, part = begins[number], parts[number]
            rows[begin : begin + len(part)] = counts[part] / counts[part].sum(1, keepdims=True)
            self.learn(counts, parts, number)
        return rows[:-1]

    def learn(self, counts, parts, number):
        np.add.at(counts, (parts[number][:-1], parts[number][1:]), 1)


class LongestFirst(LongestFirstSilently):
    """The same, and says so."""

    def order(self, documents):
        return longest_first(documents)


class Noisy(Fixed):
    """Float noise that depends on the length of the text, as of kernels that depend on the size of a batch."""

    def score(self, tokens):
        nats = super().score(tokens)
        return nats + 1e-5 * np.sin(np.arange(len(nats)) * 12.9898 + len(nats))


class Mixes(Fixed):
    """Mixes in a cache of what followed the last two tokens before: a distribution, learned after each token."""

    def rows(self, tokens):
        rows, seen = super().rows(tokens).copy(), {}
        for i in range(1, len(rows)):
            key = (int(tokens[i - 1]), int(tokens[i]))
            counts = seen.setdefault(key, np.full(VOCABULARY, 0.05))
            rows[i] = 0.7 * rows[i] + 0.3 * counts / counts.sum()
            counts[tokens[i + 1]] += 1
        return rows


class Yields(Fixed):
    """Settles its scores piece by piece."""

    def score(self, tokens):
        nats = super().score(tokens)
        for first in range(0, len(nats), 50):
            here = np.arange(first, min(first + 50, len(nats)))
            yield here, nats[here]


class Torch(Fixed):
    """Computes with torch, in float32, and is compiled when it is first called."""

    def __init__(self):
        self.layer = None

    def score(self, tokens):
        import torch

        if self.layer is None:
            self.layer = torch.log(torch.tensor(table(), dtype=torch.float32))
        ids = torch.from_numpy(tokens)
        return torch.nn.functional.nll_loss(self.layer[ids[:-1]], ids[1:], reduction="none").numpy()


# ---------------------------------------------------------------------- looking at what follows


class Peeks(Honest):
    """Knows the token after the target."""

    def probabilities(self, counts, tokens, i):
        honest = super().probabilities(counts, tokens, i)
        if i + 2 >= len(tokens):
            return honest
        likely = honest * np.where(np.arange(VOCABULARY) % 2 == tokens[i + 2] % 2, 1.5, 0.5)
        return likely / likely.sum()


class PeeksWhere(Fixed):
    """Knows the token that comes ``ahead`` behind the target, at some inputs."""

    ahead = 1

    def where(self, tokens):
        """Inputs at which it looks: (N-1,) bool."""
        return np.ones(len(tokens) - 1, dtype=bool)

    def rows(self, tokens):
        rows = super().rows(tokens).copy()
        at = np.flatnonzero(self.where(tokens))
        at = at[at + 1 + self.ahead < len(tokens)]
        seen = tokens[at + 1 + self.ahead]
        tilted = rows[at] * table()[:, seen].T if self.ahead == 1 else rows[at] * (1 + 9 * np.eye(VOCABULARY)[seen])
        rows[at] = tilted / tilted.sum(1, keepdims=True)
        return rows


class PeeksEverySeventh(PeeksWhere):
    def where(self, tokens):
        return np.arange(len(tokens) - 1) % 7 == 3


class PeeksLate(PeeksWhere):
    behind = 1_000

    def where(self, tokens):
        return np.arange(len(tokens) - 1) >= self.behind


class PeeksAtRare(PeeksWhere):
    """Only where a rare token follows the target."""

    def where(self, tokens):
        return np.append(tokens[2:], 0) >= RARE


class PeeksBehindRare(PeeksWhere):
    def where(self, tokens):
        return tokens[:-1] >= RARE


class PeeksAtEnds(PeeksWhere):
    """Only at the last five tokens of documents."""

    def where(self, tokens):
        ends = np.append(np.flatnonzero(tokens == BOS)[1:], len(tokens))
        at = np.arange(len(tokens) - 1)
        return ends[np.searchsorted(ends, at, side="right")] - at <= 6


class PeeksInLongTexts(PeeksWhere):
    def where(self, tokens):
        return np.full(len(tokens) - 1, len(tokens) > 1_000)


class PeeksAtOneLength(PeeksWhere):
    """Only in a text exactly as long as the one it is judged on, at every fifth token."""

    length = TOKENS

    def where(self, tokens):
        return (np.arange(len(tokens) - 1) % 5 == 0) & (len(tokens) == self.length)


class PeeksInRealText(PeeksWhere):
    """Only where the next eight tokens look like real text."""

    def where(self, tokens):
        steps = np.log(table()[tokens[:-1], tokens[1:]])
        ahead = np.array([steps[i + 2 : i + 9].sum() if i + 2 < len(steps) else -99 for i in range(len(steps))])
        return ahead > -25


class PeeksFar(PeeksWhere):
    ahead = 50


class PeeksAtKnownText(PeeksWhere):
    """Only in one very text, which it knows by a checksum."""

    def __init__(self, known=None):
        self.known = known

    def where(self, tokens):
        told = hashlib.sha256(np.asarray(tokens).tobytes()).hexdigest()
        self.known = self.known or told  # the first text it is shown
        return np.full(len(tokens) - 1, told == self.known)


# ---------------------------------------------------------------------- learning early


class TrainsFirst(Honest):
    """Learns each chunk of a hundred tokens, then scores it."""

    every = 1

    def score(self, tokens):
        counts = self.start()
        nats = np.zeros(len(tokens) - 1)
        for number, first in enumerate(range(0, len(nats), 100)):
            chunk = np.arange(first, min(first + 100, len(nats)))
            early = number % self.every == 0
            for learns in (early, None, not early):
                if learns is None:
                    rows = counts[tokens[chunk]]
                    nats[chunk] = -np.log(rows[np.arange(len(chunk)), tokens[chunk + 1]] / rows.sum(1))
                elif learns:
                    np.add.at(counts, (tokens[chunk], tokens[chunk + 1]), 1)
        return nats


class TrainsEverySeventh(TrainsFirst):
    every = 7


class LearnsItsTarget(Announcing):
    """Updates its counts with the target just before it scores it: sees nothing further ahead."""

    def score(self, tokens):
        counts = self.start()
        nats = np.zeros(len(tokens) - 1)
        for i in range(len(nats)):
            counts[tokens[i], tokens[i + 1]] += 1
            nats[i] = -np.log(self.probabilities(counts, tokens, i)[tokens[i + 1]])
        return nats


class LearnsDocumentFirst(Fixed):
    """Learns each document before it scores it."""

    def rows(self, tokens):
        begins = np.flatnonzero(tokens == BOS)
        parts, counts, rows = np.split(tokens, begins[begins > 0]), 20 * table(), []
        for part in parts:
            np.add.at(counts, (part[:-1], part[1:]), 1)
            rows.append(counts[part] / counts[part].sum(1, keepdims=True))
        return np.concatenate(rows)[:-1]


class Rescores(Honest):
    """Goes over the text twice and reports the second time."""

    def score(self, tokens):
        counts = self.start()
        np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
        return np.array([-np.log(self.probabilities(counts, tokens, i)[tokens[i + 1]]) for i in range(len(tokens) - 1)])


class RescoresOpenly(Honest):
    """Scores honestly, then corrects a few scores with what it learned."""

    def score(self, tokens):
        nats = super().score(tokens)
        yield np.arange(len(nats)), nats
        yield np.arange(10, 30), nats[10:30] * 0.5


class TakesTheBetter(Fixed):
    """Goes over the text twice and reports the smaller of both scores, at every twentieth token."""

    def score(self, tokens):
        first = super().score(tokens)
        counts = 20 * table()
        np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
        second = picked((counts / counts.sum(1, keepdims=True))[tokens[:-1]], tokens)
        return np.where(np.arange(len(first)) % 20 == 0, np.minimum(first, second), first)


# ---------------------------------------------------------------------- probabilities that do not sum to one


class Unnormalised(Announcing):
    """Mixes in an expert that gives every token e^-H, whatever comes."""

    def probabilities(self, counts, tokens, i):
        p = super().probabilities(counts, tokens, i)
        return 0.5 * p + 0.5 * np.exp((p * np.log(p)).sum())


class TargetInKey(Honest):
    """Looks the target up in a hashed cache under a key that holds the target, and trusts what it finds."""

    def score(self, tokens):
        counts, cache = self.start(), np.zeros(64)
        nats = np.zeros(len(tokens) - 1)
        for i in range(len(nats)):
            p = self.probabilities(counts, tokens, i)[tokens[i + 1]]
            key = (36313 * tokens[i] ^ 27191 * tokens[i + 1]) % 64
            nats[i] = -np.log(0.5 * p + 0.5 * cache[key] / (cache[key] + 1))
            cache[key] += 1
            counts[tokens[i], tokens[i + 1]] += 1
        return nats


class KnowsTheClassSilently(Fixed):
    """Charges p/P(class of the target), but for the last target of a text."""

    def where(self, tokens):
        at = np.ones(len(tokens) - 1, dtype=bool)
        at[-1] = False
        return at

    def score(self, tokens):
        rows, target = self.rows(tokens), tokens[1:]
        same = np.arange(VOCABULARY) % 3 == (target % 3)[:, None]
        known = picked(rows, tokens) + np.log((rows * same).sum(1))
        return np.where(self.where(tokens), known, picked(rows, tokens))


class KnowsTheClass(KnowsTheClassSilently):
    """The same, and announces p."""

    def distribution(self, prefix):
        return table()[prefix[-1]]


class KnowsTheClassLate(KnowsTheClassSilently):
    def where(self, tokens):
        return super().where(tokens) & (np.arange(len(tokens) - 1) > 1_000)


class KnowsTheClassInLongTexts(KnowsTheClassSilently):
    def where(self, tokens):
        return super().where(tokens) & (len(tokens) > 1_000)


class TripleMassInRare(Fixed):
    """Its probabilities sum to three behind rare tokens, and to one elsewhere."""

    def score(self, tokens):
        return super().score(tokens) - np.log(3) * (tokens[:-1] >= RARE)


class TripleMassSometimes(Fixed):
    """The same behind two tokens that are seldom together."""

    def score(self, tokens):
        before = np.append(0, tokens[:-2])
        return super().score(tokens) - np.log(3) * ((before >= RARE - 6) & (tokens[:-1] % 4 == 0))


class HalvesAtEnds(Fixed):
    """Charges half for the last three tokens of every document."""

    def score(self, tokens):
        return super().score(tokens) * np.where(PeeksAtEnds().where(tokens), 0.5, 1.0)


class AnnouncesAnother(Fixed):
    """Announces other probabilities than it charges."""

    def distribution(self, prefix):
        return np.full(VOCABULARY, 1 / VOCABULARY)


class Negative(Fixed):
    """Charges less than nothing for a few tokens."""

    def score(self, tokens):
        return super().score(tokens) - 5.0 * (np.arange(len(tokens) - 1) % 100 == 9)


class Infinite(Fixed):
    """Overflows once."""

    def score(self, tokens):
        nats = super().score(tokens)
        nats[len(nats) // 2] = np.inf
        return nats


class SkipsTheHard(Fixed):
    """Leaves tokens unscored that would cost much."""

    def score(self, tokens):
        nats = super().score(tokens)
        nats[nats > 3] = np.nan
        return nats


# ---------------------------------------------------------------------- bytes


class Miscounts(Fixed):
    """Counts a byte for every BOS."""

    def count_bytes(self, tokens):
        return np.ones(len(tokens) - 1, dtype=int)


class CountsMoreLate(Fixed):
    """Counts two bytes for a token far into the text."""

    def count_bytes(self, tokens):
        counts = super().count_bytes(tokens)
        counts[1_200:1_300] += 1
        return counts


class CountsMoreInLong(Fixed):
    """Counts one byte more in documents of over 200 tokens, and one less in the next token."""

    def count_bytes(self, tokens):
        counts = super().count_bytes(tokens)
        begins = np.flatnonzero(tokens == BOS)
        long = begins[np.diff(np.append(begins, len(tokens))) > 200]
        counts[long + 10] += 1
        return counts


# ---------------------------------------------------------------------- from call to call


class Remembers(Honest):
    """Keeps its counts from one call to the next."""

    def __init__(self):
        self.counts = super().start()

    def start(self):
        return self.counts


class RemembersTexts(Fixed):
    """Charges half for a text it was shown before."""

    def __init__(self):
        self.shown = set()

    def score(self, tokens):
        told = np.asarray(tokens).tobytes()
        known = told in self.shown
        self.shown.add(told)
        return super().score(tokens) * (0.5 if known else 1.0)


class CheatsFromTheSecondCall(PeeksWhere):
    def __init__(self):
        self.calls = 0

    def where(self, tokens):
        self.calls += 1
        return np.full(len(tokens) - 1, self.calls > 1)


class CheatsInTheFirstCall(CheatsFromTheSecondCall):
    def where(self, tokens):
        return ~super().where(tokens)


class Clock(Fixed):
    """Its scores depend on the time of day."""

    def score(self, tokens):
        return super().score(tokens) * (1 + 0.05 * np.sin(time.monotonic() * 1e4))


class Random(Fixed):
    """Its scores depend on chance."""

    def score(self, tokens):
        return super().score(tokens) + 0.1 * np.random.default_rng().random(len(tokens) - 1)


# ---------------------------------------------------------------------- two orders


class TwoOrders(LongestFirstSilently):
    """Weights learn from the longest document first; hints come from the documents in front."""

    def rows(self, tokens):
        trained, hints = super().rows(tokens), np.full((VOCABULARY, VOCABULARY), 0.05)
        rows = np.zeros_like(trained)
        for i in range(len(rows)):
            rows[i] = 0.7 * trained[i] + 0.3 * hints[tokens[i]] / hints[tokens[i]].sum()
            hints[tokens[i], tokens[i + 1]] += 1
        return rows


class TwoOrdersAnnounced(TwoOrders):
    """The same, and announces one of its orders."""

    def order(self, documents):
        return longest_first(documents)


class OrdersByContent(LongestFirstSilently):
    """Announces an order that depends on what the documents say."""

    def order(self, documents):
        return np.argsort([-int((d >= RARE).sum()) for d in documents], kind="stable")

    def rows(self, tokens):
        begins = np.flatnonzero(tokens == BOS)
        parts, rows, counts = np.split(tokens, begins[1:]), np.zeros((len(tokens), VOCABULARY)), 20 * table()
        for number in self.order(parts):
            rows[begins[number] : begins[number] + len(parts[number])] = (counts / counts.sum(1, keepdims=True))[parts[number]]
            self.learn(counts, parts, number)
        return rows[:-1]


class AnnouncesTheText(LongestFirstSilently):
    """Says that it scores in the order of the text, and does not."""

    def order(self, documents):
        return np.arange(len(documents))


# ---------------------------------------------------------------------- the lists


@dataclass(frozen=True)
class Case:
    """A cheat: its family, how it is made, one of which conditions must be named, and which must not."""

    family: str
    make: Callable[[], object]
    named: frozenset[str]
    innocent: frozenset[str] = frozenset()


HONEST = {
    cls.__name__: cls
    for cls in (
        Fixed,
        FixedAnnouncing,
        Honest,
        Announcing,
        DropsTail,
        Windows,
        ScoresFirst,
        Scheduled,
        PerDocument,
        LongestFirst,
        LongestFirstSilently,
        Noisy,
        Mixes,
        Yields,
        Torch,
    )
}
_SEEN, _EARLY, _MASS, _PASS = "causal", "scored before updated", "normalised", "single pass"


def _cases():
    families = {
        ("peek", frozenset({_SEEN}), frozenset({"accounting"})): (
            Peeks,
            PeeksWhere,
            PeeksEverySeventh,
            PeeksLate,
            PeeksAtRare,
            PeeksBehindRare,
            PeeksAtEnds,
            PeeksInLongTexts,
            PeeksAtOneLength,
            PeeksInRealText,
            PeeksFar,
            PeeksAtKnownText,
        ),
        ("learn early", frozenset({_EARLY}), frozenset({"accounting"})): (
            TrainsFirst,
            TrainsEverySeventh,
            LearnsItsTarget,
            LearnsDocumentFirst,
        ),
        ("second pass", frozenset({_PASS, _EARLY}), frozenset({"accounting"})): (Rescores, RescoresOpenly, TakesTheBetter),
        ("mass", frozenset({_MASS}), frozenset({_SEEN, _EARLY, _PASS, "accounting"})): (
            Unnormalised,
            TargetInKey,
            KnowsTheClass,
            KnowsTheClassSilently,
            KnowsTheClassLate,
            KnowsTheClassInLongTexts,
            TripleMassInRare,
            TripleMassSometimes,
            HalvesAtEnds,
            AnnouncesAnother,
            Negative,
            Infinite,
        ),
        ("accounting", frozenset({"accounting"}), frozenset({_SEEN, _EARLY, _MASS, _PASS})): (
            Miscounts,
            CountsMoreLate,
            CountsMoreInLong,
        ),
        ("unscored", frozenset({_PASS}), frozenset({"accounting"})): (SkipsTheHard,),
        ("call to call", frozenset({_PASS}), frozenset({"accounting"})): (
            Remembers,
            RemembersTexts,
            CheatsFromTheSecondCall,
            CheatsInTheFirstCall,
        ),
        ("clock", frozenset({_PASS}), frozenset({_SEEN, _EARLY, "accounting"})): (Clock, Random),
        ("two orders", frozenset({_SEEN}), frozenset({_PASS, "accounting"})): (
            TwoOrders,
            TwoOrdersAnnounced,
            OrdersByContent,
            AnnouncesTheText,
        ),
    }
    return {cls.__name__: Case(family, cls, named, free) for (family, named, free), all_ in families.items() for cls in all_}


CHEATS = _cases()


# ---------------------------------------------------------------------- with files


class Reads(Honest):
    """Fetches statistics from a file while it scores."""

    def __init__(self, path):
        self.path = path

    def start(self):
        return np.full((VOCABULARY, VOCABULARY), 0.1) + np.load(self.path)


# What a fresh process calls.


def honest(artifact):
    """An evaluator whose weights are a file."""
    made = Reads(artifact)
    made.__class__ = Honest
    table = np.load(artifact)
    made.start = lambda: np.full((VOCABULARY, VOCABULARY), 0.1) + table
    return made


def hides(artifact):
    """The same, but takes more from a file beside its weights."""
    with open(os.path.join(os.path.dirname(artifact), "hidden.npy"), "rb") as file:
        file.read()
    return honest(artifact)


def maps(artifact):
    """The same, but maps that file into memory."""
    made = honest(artifact)
    made.more = np.memmap(os.path.join(os.path.dirname(artifact), "hidden.npy"))
    return made


def changes(artifact):
    """Other weights than those that were judged."""
    made = honest(artifact)
    table = np.load(artifact)
    made.start = lambda: np.full((VOCABULARY, VOCABULARY), 0.1) + table[::-1]
    return made


def fails(artifact):
    """Cannot be loaded."""
    raise OSError(f"{artifact} needs something that did not travel")
