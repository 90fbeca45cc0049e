"""Walk: from a ranking of combinations to the one that is proposed: new, promising, and likely to fit."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtr

from golflab.search.sampler.encoding import Params

REFUSED = 0.05  # chance to fit under which parameters are never proposed
LIKELY = 0.5  # chance from which a start is tried, and above which others come before everything below
SURE = 0.95  # chance that is as good as certainty

Ranked = tuple[np.ndarray, np.ndarray]  # rows, the most promising first, and what they promise: positive


@dataclass
class Proposed:
    """A proposal: the parameters, or None if nothing was found that may fit.

    ``dropped`` combinations were refused on the way, for the first time; ``asked`` are these and the one proposed;
    ``example`` is the first of the refused.
    """

    params: Params | None
    asked: int = 0
    dropped: int = 0
    source: str = ""
    example: Params | None = None


@dataclass
class Walk:
    """Goes down a ranking for what is new and promises most, times the chance that it fits; counts what it refuses.

    What is less likely to fit than not is taken only where nothing else is met.

    Attributes:
        key: what parameter sets share that describe the same thing.
        chance: probability that parameters fit.
        taken: keys of what was tried.
        refused: keys of what other walks refused, which counts once; this walk adds its own.
        checks: chances asked for.
        ceiling: what a quick model of the size says of the smallest combination that probably does not fit.
        found: the result so far.
    """

    key: Callable[[Params], Hashable]
    chance: Callable[[Params], float]
    taken: set[Hashable]
    refused: set[Hashable]
    checks: int = 0
    ceiling: float = float("inf")
    found: Params | None = None
    _worth: tuple[bool, float] = (False, -1.0)
    _dropped: int = 0
    _example: Params | None = None
    _met: set[Hashable] = field(default_factory=set)

    def weigh(self, params: Params, promise: float, size: float | None = None, least: float = REFUSED) -> bool:
        """Whether these parameters are the walk's result so far.

        Args:
            params: to be weighed.
            promise: what they would gain if they fit.
            size: what the quick model says; what it says is larger than the ceiling should not be weighed.
            least: chance to fit below which they are not the result.
        """
        key = self.key(params)
        if key in self.taken or key in self._met:
            return False
        self.checks += 1
        chance = self.chance(params)
        if chance < REFUSED and key not in self.refused:
            self.refused.add(key)
            self._dropped += 1
            self._example = self._example or params
        if chance < LIKELY and size is not None:
            self.ceiling = min(self.ceiling, size)
        if REFUSED <= chance < least:
            return False  # it may still be weighed as one among others
        self._met.add(key)
        worth = chance >= LIKELY, promise if chance >= SURE else promise * chance
        if chance < REFUSED or worth <= self._worth:
            return False
        self.found, self._worth = params, worth
        return True

    def decided(self, promise: float) -> bool:
        """Whether nothing that promises this or less can be the result any more."""
        return (True, promise) <= self._worth

    def result(self, source: str) -> Proposed:
        """What was found; a combination that was refused in vain counts no more."""
        if self.found is None:
            return Proposed(None, self._dropped, self._dropped, source, self._example)
        key = self.key(self.found)
        again = key in self.refused
        self.refused.discard(key)
        return Proposed(self.found, self._dropped - again + 1, self._dropped - again, source, None if again else self._example)


def ranked(rows: np.ndarray, gains: np.ndarray, error: float | None = None) -> Ranked:
    """Rows, the one that gains most first, with their promises: the gains, or what is expected of gains with such an error."""
    order = np.argsort(-gains, kind="stable")
    promises = gains[order]
    if error is not None:
        u = promises / error
        promises = error * (u * ndtr(u) + np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi))
    return rows[order], np.maximum(promises, 1e-12)


def alike(rows: np.ndarray) -> Ranked:
    """Rows that all promise the same, in their order."""
    return rows, np.ones(len(rows))
