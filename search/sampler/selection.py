"""Selection: from a ranking of combinations to the one that is proposed. It must be new, promising and likely to fit."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtr

from golflab.search.sampler.encoding import Params
from golflab.search.sampler.problem import Problem

REFUSED = 0.05  # combinations with a smaller chance to fit are never proposed
LIKELY = 0.5  # combinations with a smaller chance to fit are proposed only if there is no alternative
SURE = 0.95  # from this chance on, the promise is not reduced any more

Ranked = tuple[np.ndarray, np.ndarray]  # rows (n, columns), the most promising first, and their promises (n,), all positive


@dataclass
class Proposed:
    """A proposal.

    Attributes:
        params: of the combination; None if none was found that may fit.
        asked: combinations that count as asked for: the refused ones and the one that is proposed.
        dropped: combinations that were refused for the first time.
        source: where the proposal comes from: ``start``, ``design``, ``variant``, ``posterior``, ``density``, ``around``,
            ``random`` or ``none``.
        example: the first of the refused combinations.
    """

    params: Params | None
    asked: int = 0
    dropped: int = 0
    source: str = ""
    example: Params | None = None


@dataclass
class Selection:
    """Goes through a ranking for the new combination whose promise times its chance to fit is largest; counts the refused ones.

    Combinations with less than a 50 % chance to fit are proposed only if there is no alternative.

    Attributes:
        problem: says which combinations are the same, and how likely one fits.
        taken: keys of the combinations that were tried.
        refused: keys of all combinations that were ever refused: each counts once. The selection adds its own.
        checks: how often the chance to fit was asked for.
        ceiling: size, by the quick model, of the smallest combination that probably does not fit.
        found: the best combination so far.
    """

    problem: Problem
    taken: set[Hashable]
    refused: set[Hashable]
    checks: int = 0
    ceiling: float = float("inf")
    found: Params | None = None
    _worth: tuple[bool, float] = (False, -1.0)
    _dropped: int = 0
    _example: Params | None = None
    _considered: set[Hashable] = field(default_factory=set)

    def consider(self, params: Params, promise: float, size: float | None = None, least: float = REFUSED) -> bool:
        """Compare a combination with the best one so far; return whether it is the new best.

        Args:
            params: of the combination.
            promise: its gain if it fits.
            size: its size by the quick model. The caller leaves out combinations that are larger than the ceiling.
            least: smallest chance to fit with which it may become the best.
        """
        key = self.problem.key_of(params)
        if key in self.taken or key in self._considered:
            return False
        self.checks += 1
        chance = self.problem.chance_of(params)
        if chance < REFUSED and key not in self.refused:
            self.refused.add(key)
            self._dropped += 1
            self._example = self._example or params
        if chance < LIKELY and size is not None:
            self.ceiling = min(self.ceiling, size)
        if REFUSED <= chance < least:
            return False  # it may be considered again, among others
        self._considered.add(key)
        worth = chance >= LIKELY, promise if chance >= SURE else promise * chance
        if chance < REFUSED or worth <= self._worth:
            return False
        self.found, self._worth = params, worth
        return True

    def decided(self, promise: float) -> bool:
        """Whether no combination with this promise or less can become the best any more."""
        return (True, promise) <= self._worth

    def result(self, source: str) -> Proposed:
        """The proposal. If it was refused by an earlier selection, that refusal no longer counts."""
        if self.found is None:
            return Proposed(None, self._dropped, self._dropped, source, self._example)
        key = self.problem.key_of(self.found)
        again = key in self.refused
        self.refused.discard(key)
        return Proposed(self.found, self._dropped - again + 1, self._dropped - again, source, None if again else self._example)


def ranked(rows: np.ndarray, gains: np.ndarray, error: float | None = None) -> Ranked:
    """Sort rows by their gains, the largest first.

    Args:
        rows: (n, columns).
        gains: (n,) predicted.
        error: standard deviation of the prediction. With it the promises are expected improvements, without it the gains.
    """
    order = np.argsort(-gains, kind="stable")
    promises = gains[order]
    if error is not None:
        u = promises / error
        promises = error * (u * ndtr(u) + np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi))
    return rows[order], np.maximum(promises, 1e-12)


def alike(rows: np.ndarray) -> Ranked:
    """Rows in their order, with equal promises."""
    return rows, np.ones(len(rows))
