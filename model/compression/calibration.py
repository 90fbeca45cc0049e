"""Calibration: the ratio of true to predicted size, with an interval, learned from finished runs.

Every observation is y = log(true / predicted) bytes of packed weights (code is known exactly and stays outside). The
model is a Gaussian process whose covariance counts the words that two runs' descriptions share. A run says most about its own
scheme (quantiser and codec together), something about schemes with the same clip or codec, and a little about all runs that
are trained with the same techniques.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

# Standard deviations of y over: all runs, schemes, words of a scheme, words of a training, repetitions.
COMMON, SCHEME, WORD, TRAINING, REPEAT = 0.010, 0.012, 0.020, 0.010, 0.004
ABSOLUTE = 0.06  # of schemes with an absolute step, whose rate depends on how large the weights will be
LEAST = 0.001  # no interval is narrower than this: seeds alone change real files that much
MOST = 400  # only so many of the latest runs are used, so that a forecast stays quick
FREEDOM = 8  # weight of the deviations above, in observations, before runs decide how wide intervals are


@dataclass
class Calibration:
    """Observations: description and y of every finished run. Without observations it returns the theory with a wide interval.

    A description is what `forecast.scheme` writes: the words of the scheme, a bar, the words of the training.
    """

    seen: list[tuple[str, float]] = field(default_factory=list)
    _solved: tuple[int, _Solution] | None = field(default=None, repr=False, compare=False)

    def learn(self, scheme: str, predicted: float, actual: float) -> None:
        """Add a finished run: bytes of packed weights as theory predicted them and as they came out.

        Raises:
            ValueError: one of them is not positive.
        """
        if predicted <= 0 or actual <= 0:
            raise ValueError(f"calibration: predicted={predicted} and actual={actual} bytes must both be positive.")
        self.seen.append((scheme, math.log(actual / predicted)))

    def interval(self, scheme: str, coverage: float = 0.9) -> tuple[float, float, float]:
        """Low, middle and high ratio of true to predicted bytes of a run with this description.

        Half the width is the process's own deviation times a quantile: Student's at first; once there are ⌈1/(1 − coverage)⌉
        runs of any kind, the conformal one of the standardised leave-one-out residuals.

        Raises:
            ValueError: ``coverage`` is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise ValueError(f"calibration: coverage={coverage} must lie between 0 and 1.")
        if self._solved is None or self._solved[0] != len(self.seen):
            self._solved = len(self.seen), _Solution(self.seen[-MOST:])
        solution = self._solved[1]
        middle, variance = solution.predict(scheme)
        half = max(LEAST, solution.quantile(coverage) * math.sqrt(variance))
        return math.exp(middle - half), math.exp(middle), math.exp(middle + half)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"seen": [[scheme, y] for scheme, y in self.seen]}

    @staticmethod
    def from_json(body: dict[str, Any]) -> Calibration:
        """Read `to_json`'s output."""
        return Calibration([(str(scheme), float(y)) for scheme, y in body.get("seen", [])])


class _Solution:
    """The Gaussian process given its observations (n of them, perhaps none)."""

    def __init__(self, seen: Sequence[tuple[str, float]]) -> None:
        parts, ys = [_parts(name) for name, _ in seen], np.array([y for _, y in seen])
        self._number = {scheme: i for i, scheme in enumerate(dict.fromkeys(scheme for scheme, _, _ in parts))}
        self._schemes = np.array([self._number[scheme] for scheme, _, _ in parts])
        self._apart = {scheme: _beyond(scheme, ys[self._schemes == i]) for scheme, i in self._number.items()}
        self._stored, self._trained = _Marks([words for _, words, _ in parts]), _Marks([words for _, _, words in parts])
        self._inverse = np.linalg.inv(self._among_themselves() + REPEAT**2 * np.eye(len(parts)))
        self._weighted = self._inverse @ ys
        # Leave-one-out in closed form: residual (K⁻¹y)_i / K⁻¹_ii with variance 1 / K⁻¹_ii.
        self._residuals = np.sort(np.abs(self._weighted) / np.sqrt(np.diag(self._inverse)))

    def predict(self, description: str) -> tuple[float, float]:
        """Mean and variance of y of a run with this description."""
        part = _parts(description)
        shared = self._shared(part)
        own = COMMON**2 + SCHEME**2 + WORD**2 * bool(part[1]) + TRAINING**2 * len(part[2]) + self._own(part[0]) + REPEAT**2
        return float(shared @ self._weighted), max(0.0, own - float(shared @ self._inverse @ shared))

    def quantile(self, coverage: float) -> float:
        """Half the width of an interval, in standard deviations."""
        count = len(self._residuals)
        rank = math.ceil((count + 1) * coverage)
        return student(coverage, FREEDOM) if count == 0 or rank > count else float(self._residuals[rank - 1])

    def _shared(self, part: tuple[str, frozenset[str], frozenset[str]]) -> np.ndarray:
        """(n,) covariance of a run with the observations."""
        scheme, stored, trained = part
        both = self._stored.shared(stored)
        either = self._stored.sizes + len(stored) - both
        words = WORD**2 * both / np.maximum(either, 1) + TRAINING**2 * self._trained.shared(trained)
        return COMMON**2 + (SCHEME**2 + self._own(scheme)) * (self._schemes == self._number.get(scheme, -1)) + words

    def _among_themselves(self) -> np.ndarray:
        """(n, n) covariance of the observations with each other."""
        own = np.array([self._apart[scheme] for scheme in self._number])[self._schemes] if len(self._schemes) else np.zeros(0)
        both = self._stored.among_themselves()
        either = self._stored.sizes + self._stored.sizes[:, None] - both
        words = WORD**2 * both / np.maximum(either, 1) + TRAINING**2 * self._trained.among_themselves()
        return COMMON**2 + (SCHEME**2 + own[:, None]) * (self._schemes == self._schemes[:, None]) + words

    def _own(self, scheme: str) -> float:
        return self._apart[scheme] if scheme in self._apart else _beyond(scheme, np.zeros(0))


class _Marks:
    """Sets of words as 0/1 columns, a row a word, to count what each shares with another set."""

    def __init__(self, sets: Sequence[frozenset[str]]) -> None:
        self._row = {word: i for i, word in enumerate(sorted(frozenset().union(*sets)))}
        self.sizes = np.array([len(words) for words in sets])
        self._table = np.zeros((len(self._row), len(sets)))
        marks = [(self._row[word], i) for i, words in enumerate(sets) for word in words]
        self._table[[row for row, _ in marks], [i for _, i in marks]] = 1

    def among_themselves(self) -> np.ndarray:
        """(sets, sets) words that two sets have in common."""
        return self._table.T @ self._table

    def shared(self, words: frozenset[str]) -> np.ndarray:
        """(sets,) words in common."""
        return self._table[[self._row[word] for word in words if word in self._row]].sum(axis=0)


def _beyond(scheme: str, ys: np.ndarray) -> float:
    """Extra variance of a scheme of its own, from how far its runs are from the usual deviation of schemes.

    A scheme that the theory predicts badly (for example with a step that does not follow the weights) must not affect all
    others.
    """
    usual = 9 * (COMMON**2 + SCHEME**2 + WORD**2)
    return max(ABSOLUTE**2 * ("floor" in scheme), float(np.mean(ys)) ** 2 - usual if len(ys) else 0.0)


@functools.lru_cache(maxsize=8192)
def _parts(description: str) -> tuple[str, frozenset[str], frozenset[str]]:
    scheme, _, training = description.partition("|")
    return scheme.strip(), frozenset(scheme.split()), frozenset(training.split())


def student(coverage: float, freedom: float) -> float:
    """Two-sided Student quantile by the Cornish-Fisher expansion; within 2 % from three degrees of freedom on."""
    z = NormalDist().inv_cdf((1 + coverage) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
