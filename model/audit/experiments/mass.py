"""Condition 2: the evaluator charges -log p, with probabilities p that sum to one and that are fixed before it sees the token.

Three experiments test this:

* Every token of the vocabulary is put at one position, and the probabilities that would be charged are added up. This is exact,
  but it can be done at a few positions only.
* The probabilities that the evaluator announces are compared with what it charges (see `causal.probe`).
* Made-up text is scored (see `made_up`). This tests thousands of positions in one call.
"""

from __future__ import annotations

import time

import numpy as np

from golflab.model.audit.experiments.bench import LEVELS, Bench
from golflab.model.audit.experiments.causal import (
    MASS_ERROR,
    SHAPES,
    Gap,
    Probes,
    charge_gap,
    looks_ahead,
    no_distribution,
)
from golflab.model.audit.experiments.made_up import made_up
from golflab.model.audit.experiments.texts import Text
from golflab.model.audit.verdict import Verdicts

EXACT, PARTLY = 24, 16  # positions at which all tokens are tried; positions at which only the likeliest are
LIKELY = 32  # tokens tried where all would take too long
SHORT = (16, 48)  # tokens of a text in which every token is tried
SMALL = 64  # a vocabulary of at most this size is always tried completely
PATIENCE = 60.0  # seconds that the first position with all tokens may take
CONFIRMED = 4  # differences that are examined


def normalised(bench: Bench, probes: Probes, seconds: float) -> Verdicts:
    """Verdict on condition 2, and what the same experiments find about 1 and 3.

    Args:
        bench: with the evaluator.
        probes: findings at the tested positions.
        seconds: time limit of trying tokens.
    """
    if fault := not_numbers(bench.nats, bench.tolerance):
        return {2: ("breach", fault)}
    if not bench.steady:
        return {2: ("unchecked", "scores change from call to call")}
    if probes.wrong:
        return {2: ("breach", probes.wrong)}
    found, lasts = _last_places(bench) if bench.announces else ({}, 0)
    if not found and bench.sequential and probes.gaps:
        found = _looked_into(bench, probes.gaps)
    if 2 in found:
        return found
    tried = Tried(bench, seconds)
    if fault := tried.everything():
        return found | {2: ("breach", fault)}
    made, drawn = made_up(bench)
    if made:
        return found | made
    bench.mass_tested, bench.drawn = len(probes.masses) + lasts + tried.places, drawn
    said = []
    if bench.announces:
        compared = lasts + sum(1 for _ in probes.masses)
        said.append(f"at {compared} positions the announced probabilities sum to 1 and agree with the scores")
    said.append(tried.in_words())
    said.append(f"{drawn:,} tokens drawn with known probabilities were not predicted better than is possible")
    return found | {2: ("pass", "; ".join(said))}


def not_numbers(nats: np.ndarray, tolerance: float) -> str:
    """Why scores are not valid numbers; empty if they are."""
    scored = nats[~np.isnan(nats)]
    if not len(scored):
        return "no target was scored"
    if not np.isfinite(scored).all():
        return f"infinite scores: {int((~np.isfinite(scored)).sum())}"
    if (scored < -tolerance).any():
        return f"negative scores, as those of a probability above one: {int((scored < -tolerance).sum())}"
    return ""


# ---------------------------------------------------------------------- announced and charged


def _last_places(bench: Bench, count: int = 4) -> tuple[Verdicts, int]:
    """Compare scores after prefixes with announced probabilities: verdicts on 2 and 3, and the number of comparisons."""
    gaps, done = [], 0
    for number in range(count):
        text = bench.text if number == count - 1 else bench.stretch(int(bench.random.choice(bench.levels[:2])))
        length = _round(len(text.tokens) - 1 if number == 0 else int(bench.random.integers(1, len(text.tokens))))
        announced = bench.distribution(text.tokens[:length])
        if announced is None:
            continue
        if wrong := no_distribution(bench, announced, length):
            return {2: ("breach", wrong)}, done
        for token in (int(text.tokens[length]), int(bench.random.choice(bench.known))):
            charged = bench.tried(np.append(text.tokens[:length], token))
            if charged is not None and not np.isnan(charged[-1]):
                done += 1
                gaps.append(charge_gap(charged[-1], announced[token]))
    wrong_ones = [gap for gap in gaps if not abs(gap) <= SHAPES * bench.tolerance]
    if not wrong_ones:
        return {}, done
    off = max(map(abs, wrong_ones))
    evidence = f"{len(wrong_ones)} of {len(gaps)} scores differ from the announced probabilities, by up to {off:.3g} nats"
    known = ("breach", f"{evidence}, and all are better: the tokens were learned from before they were scored")
    return {2: ("breach", evidence)} | ({3: known} if max(gaps) < -SHAPES * bench.tolerance else {}), done


def _round(length: int) -> int:
    """A length that is filled by whole windows, so that an evaluation that drops its tail scores the last token."""
    return max(1, length) if length < 1024 else length // 1024 * 1024


def _looked_into(bench: Bench, gaps: list[Gap]) -> Verdicts:
    """Why do scores in the text and after the prefix differ: by later tokens, by excess probability, or by the length?"""
    ordered = sorted(gaps, key=lambda gap: gap.nats)
    for gap in [*ordered[: CONFIRMED // 2], *ordered[CONFIRMED // 2 :][-CONFIRMED // 2 :]]:
        for text in (gap.text, gap.prefix):  # the score that is too good may be that of the prefix
            if text is None:
                continue
            if moved := looks_ahead(bench, text, gap.input):
                return {1: ("breach", f"the score of a target changed by {moved.largest:.3g} nats with what follows it")}
            mass, count = summed(bench, text, gap.input, 2 * LIKELY)
            if mass > 1 + MASS_ERROR:
                other = "the announced probability" if gap.prefix is None else "the score in a text with another end"
                evidence = f"a score differs by {abs(gap.nats):.3g} nats from {other}"
                return {2: ("breach", f"{evidence}, and the probabilities of {count} of {bench.size} tokens sum to {mass:.4g}")}
    bench.notes.append(
        f"{len(gaps)} targets have other scores (by up to {max(abs(g.nats) for g in gaps):.3g} nats) where the text or "
        "their document ends elsewhere, whatever tokens follow: the evaluator uses the lengths of documents"
    )
    return {}


def summed(bench: Bench, text: Text, at: int, count: int, deadline: float = np.inf) -> tuple[float, int]:
    """Sum of the probabilities of the likeliest ``count`` tokens as the target of input ``at``, and how many were tried.

    It stops early when the sum exceeds one, or at the deadline.
    """
    mass, tokens = 0.0, _likeliest(bench, text, at)[:count]
    for done, token in enumerate(tokens, 1):
        mass += _probability(bench, text, at, int(token))
        if mass > 1 + MASS_ERROR or time.monotonic() > deadline:
            return mass, done
    return mass, len(tokens)


def _likeliest(bench: Bench, text: Text, at: int) -> np.ndarray:
    """All tokens, sorted by an estimate of their probability as the target of input ``at``, the likeliest first."""
    announced = bench.distribution(text.tokens[: at + 1]) if bench.announces else None
    if announced is not None and announced.shape == (bench.size,):
        return np.argsort(-announced, kind="stable")
    here = int(text.tokens[at])
    behind = bench.by_token[bench.first_of[here] : bench.first_of[here + 1]] + 1
    followers = np.bincount(bench.real[behind[behind < len(bench.real)]], minlength=bench.size)
    score = followers / max(1, followers.sum()) + 0.1 * bench.counts / bench.counts.sum()
    score[text.tokens[at + 1]] += 1
    return np.argsort(-score, kind="stable")


def _probability(bench: Bench, text: Text, at: int, token: int) -> float:
    tokens = text.tokens.copy()
    tokens[at + 1] = token
    scores = bench.tried(tokens)
    return 0.0 if scores is None or np.isnan(scores[at]) else float(np.exp(-scores[at]))


# ---------------------------------------------------------------------- every token tried


class Tried:
    """Tries tokens at one position of short texts: at the end, in the middle, after rare tokens and at the end of documents.

    Attributes:
        places: number of positions where tokens were tried.
        masses: sums over the whole vocabulary.
    """

    def __init__(self, bench: Bench, seconds: float) -> None:
        self.bench, self.deadline = bench, time.monotonic() + seconds
        self.places, self.masses, self.partial = 0, list[float](), 0

    def everything(self) -> str:
        """Try until the deadline; return what is wrong, or an empty text."""
        # Where probabilities are announced, comparing them with the scores tests the same in less time.
        exact = 0 if self.bench.announces and self.bench.size > SMALL else EXACT
        for number in range(exact + PARTLY):
            if number >= exact and self.bench.size <= SMALL:
                break
            if time.monotonic() > self.deadline and number not in (0, exact, exact + 1, exact + 2):
                continue
            text, at = self._context(number)
            if at < 0:
                break
            wrong = self._exact(text, at) if number < exact else self._added(text, at, LIKELY, np.inf)
            if wrong:
                return wrong
        return ""

    def in_words(self) -> str:
        """What was tried, in words."""
        if not self.places:
            return "no short text could be scored, so tokens could not be tried"
        said = []
        if self.masses:
            worst = max(self.masses, key=lambda mass: abs(mass - 1))
            said.append(
                f"at {len(self.masses)} positions all {self.bench.size} tokens were tried: "
                f"the sum furthest from 1 is {worst:.6g}"
            )
        if self.partial:
            said.append(f"at {self.partial} positions the {LIKELY} likeliest: the sum is at most 1")
        return "; ".join(said)

    def _exact(self, text: Text, at: int) -> str:
        patience = self.deadline if self.masses else max(self.deadline, time.monotonic() + PATIENCE)
        return self._added(text, at, self.bench.size, patience)

    def _added(self, text: Text, at: int, count: int, deadline: float) -> str:
        """Add up the probabilities of the likeliest ``count`` tokens; what is wrong with the sum, or an empty text."""
        mass, done = summed(self.bench, text, at, count, deadline)
        where, size = f"tried after {at + 1} tokens" + ("" if at == len(text.tokens) - 2 else " in mid-text"), self.bench.size
        self.places += 1
        if mass > 1 + MASS_ERROR:
            return f"{where}, the probabilities of {done} of {size} tokens sum to {mass:.4g}, more than 1"
        if done < size:
            self.partial += 1
            return ""
        self.masses.append(mass)
        return f"{where}, the probabilities of all {size} tokens sum to {mass:.6g}, not to 1" if mass < 1 - MASS_ERROR else ""

    def _context(self, number: int) -> tuple[Text, int]:
        """A short text and the input whose target is replaced; -1 where no short text is scored."""
        bench = self.bench
        for length in (int(bench.random.integers(*SHORT)), *LEVELS[1:], len(bench.text.tokens)):
            if length > len(bench.text.tokens):
                continue
            back = int(bench.random.integers(2, max(3, length // 2)))
            text = bench.text if length == len(bench.text.tokens) else bench.stretch(length, self._place(number, length, back))
            base = bench.base(text)
            if base is None:
                continue
            scored = np.flatnonzero(~np.isnan(base))
            if len(scored):
                last = (
                    number % 4 == 0 or not bench.sequential
                )  # otherwise the document's length would change, and with it the order
                return text, int(scored[-1] if last else scored[np.argmin(np.abs(scored - (length - 2 - back)))])
        return bench.text, -1

    def _place(self, number: int, length: int, back: int) -> int | None:
        """Where in the real text to begin, for a target of the wanted kind."""
        bench = self.bench
        if number % 4 == 1:  # a document's end
            return int(bench.random.choice(bench.starts)) - (length - back) + int(bench.random.integers(0, 3))
        if number % 4 == 2:  # a rare token: each kind of token equally often
            token = int(bench.random.choice(bench.known))
            found = bench.by_token[bench.first_of[token] : bench.first_of[token + 1]]
            return int(bench.random.choice(found)) - (length - 2 - back)
        return None
