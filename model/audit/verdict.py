"""What an audit is given and what it returns: the evaluator's interface, its package, and the verdict on each condition."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Verdicts = dict[int, tuple[str, str]]  # condition number -> state, evidence
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
    """How a fresh process loads the evaluator, and which files belong to it.

    Attributes:
        factory: ``module:function``; called with ``arguments`` it returns the evaluator.
        arguments: texts that the factory needs, for example paths of files.
        files: weights and whatever else counts against the limit besides the code.
        code: source files and folders the evaluator may read; counted unless ``code_bytes`` is given.
        free: files it may read that do not count, such as the tokenizer.
        code_bytes: length of the submitted code.
    """

    factory: str
    arguments: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    code: tuple[Path, ...] = ()
    free: tuple[Path, ...] = ()
    code_bytes: int | None = None


@dataclass(frozen=True)
class Verdict:
    """The result of the experiments on one condition.

    Attributes:
        condition: its number, 1 … 8.
        name: its name.
        state: ``pass``, ``breach``, or ``unchecked`` where something that the experiment needs was not given.
        evidence: what was measured.
        power: how much was tested, and what would have been found.
    """

    condition: int
    name: str
    state: str
    evidence: str
    power: str = ""


@dataclass(frozen=True)
class Audit:
    """All verdicts.

    Attributes:
        verdicts: one for each condition.
        seed: of the experiments; with the same seed they are the same.
        power: by name of the condition, what the experiments could have found.
        notes: further remarks for the reader.
    """

    verdicts: tuple[Verdict, ...]
    seed: int | None = None
    power: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

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
        body = {"passed": self.passed, "seed": self.seed, "verdicts": [asdict(v) for v in self.verdicts]}
        return body | {"power": self.power, "notes": list(self.notes)}

    def __str__(self) -> str:
        lines = []
        for v in self.verdicts:
            lines.append(f"{v.condition} {v.name:<22} {v.state:<10} {v.evidence}")
            lines += [f"{'':<25}{'power':<11}{v.power}"] if v.power and v.state == "pass" else []
        lines += [f"note: {note}" for note in self.notes]
        lines += [] if self.seed is None else [f"seed {self.seed}: with it the same experiments are drawn again"]
        unchecked = sum(v.state == "unchecked" for v in self.verdicts)
        end = f"breached: {', '.join(self.breaches)}" if self.breaches else f"no breach found, {unchecked} conditions unchecked"
        return "\n".join([*lines, end])
