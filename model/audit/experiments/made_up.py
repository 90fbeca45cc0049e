"""Condition 2 on made-up text: tokens drawn with probabilities q that we know.

An evaluator that sees only what came before charges -log p with probabilities p that sum to one. Then p/q is 1 on average at
every position, and no bettor can win against it. If a bettor wins, the probabilities sum to more than one, or the evaluator
looked at later text. One call tests thousands of positions.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from golflab.model.audit.experiments.bench import LEVELS, Bench
from golflab.model.audit.experiments.causal import MASS_ERROR, Moved, looks_ahead
from golflab.model.audit.experiments.texts import Text
from golflab.model.audit.verdict import Verdicts

ALPHA = 1e-6  # probability that made-up text leads to a breach of an honest evaluator
STAKES = np.array([0.01, 0.03, 0.1, 0.2, 0.4, 0.7])  # shares of its money that a bettor puts on every token


def made_up(bench: Bench) -> tuple[Verdicts, int]:
    """Score text drawn with known probabilities; return the breaches found, and the number of tokens drawn."""
    drawn = 0
    lengths = [length for length in (*LEVELS[1:], len(bench.text.tokens)) if length <= len(bench.text.tokens)]
    for length in dict.fromkeys(lengths):
        for kept in (0.5, 0.0):
            shape = bench.text if length == len(bench.text.tokens) else bench.stretch(length)
            text, q = invent(bench, shape, kept)
            nats = bench.tried(text.tokens)
            if nats is None:
                continue
            ratio = np.exp(-nats[drawn_inputs(text, q)]) / q[drawn_inputs(text, q) + 1]
            inputs = drawn_inputs(text, q)[~np.isnan(ratio)]
            drawn += len(inputs)
            winners = _won(bench, text, inputs, ratio[~np.isnan(ratio)])
            if len(winners):
                return _accused(bench, text, winners), drawn
    return {}, drawn


def drawn_inputs(text: Text, q: np.ndarray) -> np.ndarray:
    """Inputs whose targets were drawn."""
    return np.flatnonzero(~np.isnan(q[1:]))


def invent(bench: Bench, text: Text, kept: float) -> tuple[Text, np.ndarray]:
    """Draw a text with the same length and the same beginnings of documents.

    Each token is kept with probability ``kept``. Otherwise it is drawn: with probability 0.5 from the tokens that follow the
    token before it in the real text, 0.4 from all tokens by their frequency, and 0.1 from the vocabulary with equal
    probability.

    Returns:
        the text; (n,) the probability with which each token was drawn, NaN where it was fixed.
    """
    tokens, n = text.tokens.copy(), len(text.tokens)
    ordinary = np.setdiff1d(np.arange(bench.size), [bench.bos])
    stay, which, pick = bench.random.random(n), bench.random.random(n), bench.random.random(n)
    order, first = bench.by_token, bench.first_of
    follows = np.append(bench.real[1:], bench.bos)[order]  # the tokens after each token, grouped by token
    usable = [row[row != bench.bos] for row in np.split(follows, first[1:-1])]
    for i in np.flatnonzero(~text.fixed):
        if stay[i] < kept:
            continue
        row = usable[tokens[i - 1]]
        if which[i] < 0.5 and len(row):
            tokens[i] = row[int(pick[i] * len(row))]
        elif which[i] < 0.9:
            tokens[i] = bench.pool[int(pick[i] * len(bench.pool))]
        else:
            tokens[i] = ordinary[int(pick[i] * len(ordinary))]
    q = np.full(n, np.nan)
    at = np.flatnonzero(~text.fixed)
    front, here = tokens[at - 1], tokens[at]
    sizes = np.array([len(row) for row in usable])[front]
    pairs = np.sort(np.repeat(np.arange(bench.size), np.diff(first)) * bench.size + follows)
    keys = front * bench.size + here
    together = np.searchsorted(pairs, keys, side="right") - np.searchsorted(pairs, keys, side="left")
    single = np.bincount(bench.pool, minlength=bench.size)[here] / len(bench.pool)
    followed = np.where(sizes > 0, together / np.maximum(1, sizes), single)
    drawn = 0.5 * followed + 0.4 * single + 0.1 / len(ordinary) * (here != bench.bos)
    q[at] = (1 - kept) * drawn + kept * (here == text.tokens[at])
    return Text(tokens, text.begins), q


def _won(bench: Bench, text: Text, inputs: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """The inputs at which a bettor won most, if one won more than chance can explain; otherwise none.

    A bettor puts a share of its money on every token. On average it neither wins nor loses, so it reaches 1/ALPHA times its
    first money with probability at most ALPHA. On which tokens it bets depends on earlier tokens only: on all; on those after
    rare tokens; on those near the ends of documents; on those far into the text.
    """
    kinds = [np.ones(len(inputs), dtype=bool)]
    kinds.append(bench.counts[text.tokens[inputs]] <= np.median(bench.counts[bench.known]))
    ends = np.append(text.begins[1:], len(text.tokens))
    kinds.append(ends[text.document_of[inputs]] - inputs <= 8)
    kinds += [inputs >= len(text.tokens) * share for share in (0.5, 0.8)]
    for kind in kinds:
        gains = np.log1p(STAKES[:, None] * (ratio[kind] / (1 + MASS_ERROR) - 1))
        wealth = np.logaddexp.reduce(np.cumsum(gains, axis=1), axis=0) - np.log(len(STAKES))
        if wealth.size and wealth.max() > -np.log(ALPHA / len(kinds)):
            chosen = np.flatnonzero(kind)
            return inputs[chosen[np.argsort(-ratio[chosen], kind="stable")[:16]]]
    return inputs[:0]


def _accused(bench: Bench, text: Text, inputs: Iterable[int]) -> Verdicts:
    """Made-up text was predicted too well: by looking ahead, or by probabilities that sum to more than one?"""
    evidence = f"text drawn with known probabilities was predicted better than possible (probability by chance below {ALPHA:g})"
    ahead: list[Moved] = [m for at in inputs if (m := looks_ahead(bench, text, int(at), 2)) is not None]
    if ahead:
        return {1: ("breach", f"{evidence}, and scores change with what follows"), 2: ("pass", "no sum above one was found")}
    return {2: ("breach", f"{evidence}, though scores do not change with what follows: the probabilities sum to more than 1")}
