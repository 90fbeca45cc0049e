"""Judges an evaluation by experiments: are its scores the bits per byte of a causal, normalised predictor?

Anything with a ``vocabulary`` and ``score(tokens)`` can be audited; its source code and its own claims do not count.
A model from elsewhere, in ten lines:

    class Mine:
        vocabulary = 1024
        def score(self, tokens):                # (N,) ids -> nats of targets 1 … N-1
            return my_losses(tokens)
        def distribution(self, prefix):         # optional: probabilities (V,) of the token after the prefix
            return my_probabilities(prefix)
        def count_bytes(self, tokens):          # optional: bytes that targets 1 … N-1 stand for
            return my_bytes(tokens)

    print(audit(Mine(), documents, decode=tokenizer.decode))

``score`` may also yield ``(inputs, nats)`` pieces as it scores them; then the order of scoring is judged too. An evaluator
that scores documents in another order than the text's says so by ``order(documents) -> numbers of documents``. With a `Package`
(how a fresh process loads the evaluator, and which files belong to it) bytes and files are judged as well.

Experiments are drawn at random. The seed is part of the result: with it they can be repeated. See docs/audit.md.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from golflab.model.audit.experiments.accounting import accounting
from golflab.model.audit.experiments.bench import Bench
from golflab.model.audit.experiments.causal import causal, probe
from golflab.model.audit.experiments.mass import normalised
from golflab.model.audit.experiments.order import announced
from golflab.model.audit.experiments.package import bytes_and_files, in_time
from golflab.model.audit.experiments.single_pass import single_pass, steadiness
from golflab.model.audit.experiments.texts import Text
from golflab.model.audit.power import Power
from golflab.model.audit.verdict import CONDITIONS, LIMIT_BYTES, LIMIT_SECONDS, Audit, Auditable, Package, Verdict, Verdicts
from golflab.model.system.progress import Progress

POSITIONS, BUDGET = 1_500, 60.0  # tested at most, and seconds that this and trying out tokens may take
LEAST_TOKENS, MOST_TOKENS = 40_000, 400_000  # of the text that experiments use, by default
SCORINGS = 25  # of that text for which the budget should be enough


def audit(
    evaluator: Auditable,
    documents: Sequence[np.ndarray],
    *,
    decode: Callable[[np.ndarray], str] | None = None,
    originals: Sequence[str] | None = None,
    package: Package | None = None,
    limit: int = LIMIT_BYTES,
    seconds: float = LIMIT_SECONDS,
    whole: int | None = None,
    tokens: int | None = None,
    tolerance: float = 1e-4,
    seed: int | None = None,
    positions: int = POSITIONS,
    budget: float = BUDGET,
) -> Audit:
    """Run all experiments.

    Args:
        evaluator: what is judged; see `Auditable`.
        documents: (tokens,) ids, each beginning with BOS; it must be real text, or the experiments find little.
        decode: ids -> text, trusted (not the evaluator's own), to count bytes independently.
        originals: the documents' text before it became tokens, if it is known.
        package: how to load the evaluator afresh; without it bytes and files stay unchecked.
        limit: bytes that code and weights may have together.
        seconds: the time limit of the whole evaluation.
        whole: tokens of the whole evaluation, to extrapolate to; all ``documents`` by default.
        tokens: how much text is scored as a whole in the experiments, from its beginning on; by default all of it, or at least
            40,000 tokens and as many as ``budget`` allows. Bytes are always counted over all documents.
        tolerance: nats by which a score may differ for numerical reasons.
        seed: of the experiments' random choices; None draws one, which no evaluator can know.
        positions: largest number of positions at which influence of later tokens is tested.
        budget: seconds for testing positions and trying tokens; the other experiments take about as long again.

    Raises:
        ValueError: fewer than 64 tokens of text, scores that are not one number per target, or an order that is not a
            permutation.
    """
    count = sum(map(len, documents))
    if count < 64:
        raise ValueError(f"audit: {count} tokens are too little text for an experiment; give at least 64, better 40,000.")
    seed = secrets.randbits(32) if seed is None else seed
    documents = [np.asarray(document, dtype=np.int64) for document in documents]
    text = _text(documents, tokens or _affordable(evaluator, documents, budget))
    bench = Bench(evaluator, documents, text, tolerance, np.random.default_rng(seed))
    found: Verdicts = {}
    with Progress("audit", 6) as bar:
        for done, verdicts in enumerate(_score_experiments(bench, positions, budget), 1):
            _add(found, verdicts)
            bar.update(done)
        _add(found, {6: accounting(evaluator, documents, decode, originals)})
        _add(found, bytes_and_files(bench, package, limit))
        bar.update(5)
        _add(found, {8: in_time(bench, whole or count, seconds)})
    powers = _powers(bench, count)
    judged = (Verdict(n, name, *found[n], power=str(powers[name])) for n, name in CONDITIONS.items())
    return Audit(tuple(judged), seed, {name: power.to_json() for name, power in powers.items()}, tuple(bench.notes))


def _score_experiments(bench: Bench, positions: int, budget: float) -> Iterator[Verdicts]:
    """Verdicts on conditions 1 to 4. The order matters: each experiment reads what the ones before it noted on the bench."""
    unsteady = steadiness(bench)
    yield announced(bench) if bench.announced else {}
    probes = probe(bench, positions, budget * 0.6)
    yield causal(bench, probes)
    yield normalised(bench, probes, budget * 0.3)
    yield {4: single_pass(bench, unsteady)}


def _add(found: Verdicts, verdicts: Verdicts) -> None:
    """Merge verdicts of one experiment into those found so far; of two on one condition the worse one stays."""
    for condition, verdict in verdicts.items():
        found[condition] = _worse(found.get(condition), verdict)


def _text(documents: Sequence[np.ndarray], tokens: int) -> Text:
    """The first ``tokens`` tokens of the documents."""
    begins = np.cumsum([0, *(len(d) for d in documents[:-1])])
    return Text(np.concatenate(documents)[:tokens], begins[begins < tokens])


def _affordable(evaluator: Any, documents: Sequence[np.ndarray], budget: float) -> int:
    """Tokens that can be scored some `SCORINGS` times within the budget; at least `LEAST_TOKENS`, as far as there are so many.

    The speed is measured with a copy, so that the first call that counts is the evaluator's first.
    """
    count = sum(map(len, documents))
    if count <= LEAST_TOKENS:
        return count
    probe_text = _text(documents, 4_000).tokens
    try:
        import copy

        other = copy.deepcopy(evaluator)
        list(other.score(probe_text.copy()))
        began = time.monotonic()
        list(other.score(probe_text.copy()))
        speed = len(probe_text) / max(1e-6, time.monotonic() - began)
    except Exception:  # it cannot be copied, or cannot score so little; the first real call will report why
        return LEAST_TOKENS
    return int(min(count, MOST_TOKENS, max(LEAST_TOKENS, speed * budget / SCORINGS)))


def _powers(bench: Bench, count: int) -> dict[str, Power]:
    """The power of the experiments on each condition."""
    positions = len(bench.nats)
    future = Power(bench.tested, positions, len(bench.whole_tested)) if bench.steady else Power(0, positions)
    made = f"{bench.drawn:,} tokens of made-up text, on which probabilities that sum to much more than 1 are found at once"
    mass = Power(bench.mass_tested, positions, len(bench.whole_compared), made if bench.drawn else "")
    everything = Power(positions, positions, positions)
    powers = {
        1: future,
        2: mass,
        3: future,
        4: everything,
        5: Power(None, 0, note="every declared byte; every score of the text that the fresh process scored"),
        6: Power(count, count, count, note="every document"),
        7: Power(None, 0, note="what the process does while it loads and scores, not what it would do elsewhere or later"),
        8: Power(None, 0, note=f"{len(bench.text.tokens):,} of {count:,} tokens were timed"),
    }
    return {CONDITIONS[number]: power for number, power in powers.items()}


def _worse(one: tuple[str, str] | None, other: tuple[str, str]) -> tuple[str, str]:
    """A breach counts more than a pass; the evidence of two equal states is joined."""
    if one is None or one[0] == other[0]:
        return other if one is None else (one[0], "; ".join(dict.fromkeys([one[1], other[1]])))
    return min(one, other, key=lambda verdict: ("breach", "pass", "unchecked").index(verdict[0]))
