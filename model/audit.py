"""Judges an evaluation by experiment: is what it reports the honest bits per byte of a causal, normalised predictor?

Anything with a ``vocabulary`` and ``score(tokens)`` can be audited; nothing is taken from its source code or its word.
A stranger's model in ten lines:

    class Mine:
        vocabulary = 1024
        def score(self, tokens):                # (N,) ids -> nats of targets 1 … N-1
            return my_losses(tokens)
        def distribution(self, prefix):         # optional: probabilities (V,) of the token behind the prefix
            return my_probabilities(prefix)
        def count_bytes(self, tokens):          # optional: bytes that targets 1 … N-1 stand for
            return my_bytes(tokens)

    print(audit(Mine(), documents, decode=tokenizer.decode))

``score`` may also yield ``(inputs, nats)`` pieces as it settles them; then the order of settling is judged too. With a
`Package` (how a fresh process loads the evaluator, and which files travel) bytes and files are judged as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from model.audit_experiments import Bench, accounting, bytes_and_files, causal, in_time, normalised
from model.progress import Progress

CONDITIONS = {
    1: "causal",
    2: "normalised",
    3: "scored before updated",
    4: "single pass",
    5: "bytes",
    6: "accounting",
    7: "no training data",
    8: "time",
}
LIMIT_BYTES, LIMIT_SECONDS = 16_000_000, 600.0


class Auditable(Protocol):
    """The evaluator's small interface; ``distribution`` and ``count_bytes`` may be missing."""

    vocabulary: int

    def score(self, tokens: np.ndarray) -> Any:
        """(N,) ids -> (N-1,) nats of targets 1 … N-1, or an iterator of (inputs, nats) pieces."""


@dataclass(frozen=True)
class Package:
    """How a fresh process gets the evaluator, and what travels with it.

    Attributes:
        factory: ``module:function``; called with ``arguments`` it returns the evaluator.
        arguments: text the factory needs, as paths of files.
        files: weights and whatever else counts against the limit besides the code.
        code: source files and folders the evaluator may read; counted unless ``code_bytes`` says what travels.
        free: files it may read that do not count, as the tokenizer.
        code_bytes: length of the code that travels.
    """

    factory: str
    arguments: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    code: tuple[Path, ...] = ()
    free: tuple[Path, ...] = ()
    code_bytes: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What the experiments say about one condition.

    Attributes:
        condition: its number, 1 … 8.
        name: its name.
        state: ``pass``, ``breach``, or ``unchecked`` where the experiment needs something that was not given.
        evidence: what was measured.
    """

    condition: int
    name: str
    state: str
    evidence: str


@dataclass(frozen=True)
class Audit:
    """All verdicts."""

    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether no condition was breached."""
        return not self.breaches

    @property
    def breaches(self) -> tuple[str, ...]:
        """Names of the conditions that were breached."""
        return tuple(v.name for v in self.verdicts if v.state == "breach")

    def to_json(self) -> dict[str, Any]:
        """The object `golflab audit --json` prints."""
        return {"passed": self.passed, "verdicts": [asdict(v) for v in self.verdicts]}

    def __str__(self) -> str:
        lines = [f"{v.condition} {v.name:<22} {v.state:<10} {v.evidence}" for v in self.verdicts]
        unchecked = sum(v.state == "unchecked" for v in self.verdicts)
        end = f"breached: {', '.join(self.breaches)}" if self.breaches else f"no breach found, {unchecked} conditions unchecked"
        return "\n".join([*lines, end])


def audit(
    evaluator: Auditable,
    documents: Sequence[np.ndarray],
    *,
    decode: Callable[[np.ndarray], str] | None = None,
    package: Package | None = None,
    limit: int = LIMIT_BYTES,
    seconds: float = LIMIT_SECONDS,
    whole: int | None = None,
    tokens: int = 40_000,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> Audit:
    """Run all experiments.

    Args:
        evaluator: what is judged; see `Auditable`.
        documents: (tokens,) ids, each beginning with BOS; real text, or experiments on it prove little.
        decode: ids -> text, trusted (not the evaluator's own), to count bytes independently.
        package: how to load the evaluator afresh; without it bytes and files stay unchecked.
        limit: bytes that code and weights may have together.
        seconds: the time limit of the whole evaluation.
        whole: tokens of the whole evaluation, to extrapolate to; all ``documents`` by default.
        tokens: how much text the experiments use; adapters that learn every 32,768 tokens need more than that.
        tolerance: nats by which a score may differ for numerical reasons.
        seed: of the experiments' random choices.

    Raises:
        ValueError: fewer than 64 tokens of text, or scores that are not one number per target.
    """
    text = np.concatenate([np.asarray(d, dtype=np.int64) for d in documents])
    if len(text) < 64:
        raise ValueError(f"audit: {len(text)} tokens are too little text for an experiment; give at least 64, better 40,000.")
    bench = Bench(evaluator, text[:tokens], tolerance, np.random.default_rng(seed))
    found: dict[int, tuple[str, str]] = {}
    with Progress("audit", 5) as bar:
        for done, experiment in enumerate(
            (
                lambda: causal(bench),
                lambda: normalised(bench),
                lambda: accounting(bench, documents, decode),
                lambda: bytes_and_files(bench, package, limit),
                lambda: in_time(bench, whole or len(text), seconds),
            )
        ):
            for condition, (state, evidence) in experiment().items():
                found[condition] = _worse(found.get(condition), (state, evidence))
            bar.update(done + 1)
    return Audit(tuple(Verdict(number, name, *found[number]) for number, name in CONDITIONS.items()))


def _worse(one: tuple[str, str] | None, other: tuple[str, str]) -> tuple[str, str]:
    """A breach beats a pass; two of a kind are told together."""
    if one is None or one[0] == other[0]:
        return other if one is None else (one[0], f"{one[1]}; {other[1]}")
    return min(one, other, key=lambda verdict: ("breach", "pass", "unchecked").index(verdict[0]))
