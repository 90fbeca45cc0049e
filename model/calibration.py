"""Calibration: the ratio of true to predicted size, learned from finished runs, with an interval.

Every observation is y = log(true / predicted) bytes of packed weights (code is known exactly and stays outside). Runs whose
descriptions share words share their deviations: a Gaussian process whose covariance counts shared words. A run teaches
most about its own scheme (quantiser and codec together), something about schemes with the same clip or codec, and a
little about everything trained with the same techniques.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

# Standard deviations of y over: all runs, schemes, words of a scheme, words of a training, repetitions.
COMMON, SCHEME, WORD, TRAINING, REPEAT = 0.010, 0.012, 0.020, 0.010, 0.004
ABSOLUTE = 0.06  # of schemes with an absolute step, whose rate hangs on how large the weights will be
LEAST = 0.001  # no interval is narrower than this: seeds alone move real files that much
FREEDOM = 8  # how many observations the deviations above are worth before runs say how wide intervals must be


@dataclass
class Calibration:
    """Observations: description and y of every finished run. Empty, it returns the theory with a wide interval.

    A description is what `forecast.scheme` writes: the words of the scheme, a bar, the words of the training.
    """

    seen: list[tuple[str, float]] = field(default_factory=list)
    _solved: tuple[int, np.ndarray, np.ndarray] | None = field(default=None, repr=False, compare=False)

    def learn(self, scheme: str, predicted: float, actual: float) -> None:
        """Add a finished run: bytes of packed weights as theory predicted them and as they came out.

        Raises:
            ValueError: one of them is not positive.
        """
        if predicted <= 0 or actual <= 0:
            raise ValueError(f"calibration: predicted={predicted} and actual={actual} bytes must both be positive.")
        self.seen.append((scheme, math.log(actual / predicted)))

    def interval(self, scheme: str, coverage: float = 0.9) -> tuple[float, float, float]:
        """Low, middle and high ratio of true to predicted bytes of a run so described.

        Half the width is the process's own deviation times a quantile: Student's at first; once there are ⌈1/(1 − coverage)⌉
        runs of any kind, the conformal one of the standardised leave-one-out residuals.

        Raises:
            ValueError: ``coverage`` is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise ValueError(f"calibration: coverage={coverage} must lie between 0 and 1.")
        middle, variance = 0.0, covariance(scheme, scheme) + REPEAT**2
        if self.seen:
            inverse, weighted = self._solve()
            shared = np.array([covariance(scheme, other) for other, _ in self.seen])
            stored = _parts(scheme)[0]
            shared += np.array([(_parts(other)[0] == stored) * self._apart(stored) for other, _ in self.seen])
            variance += self._apart(stored)
            middle, variance = float(shared @ weighted), max(0.0, variance - float(shared @ inverse @ shared))
        half = max(LEAST, self._quantile(coverage) * math.sqrt(variance))
        return math.exp(middle - half), math.exp(middle), math.exp(middle + half)

    def _solve(self) -> tuple[np.ndarray, np.ndarray]:
        """Inverse covariance of the observations, (runs, runs), and that times y; kept until a run is added."""
        if self._solved is None or self._solved[0] != len(self.seen):
            names, ys = [name for name, _ in self.seen], np.array([y for _, y in self.seen])
            matrix = np.array([[covariance(a, b) for b in names] for a in names]) + REPEAT**2 * np.eye(len(names))
            stored = np.array([_parts(name)[0] for name in names])
            matrix += (stored[:, None] == stored[None, :]) * np.array([self._apart(s) for s in stored])[:, None]
            inverse = np.linalg.inv(matrix)
            self._solved = len(names), inverse, inverse @ ys
        return self._solved[1], self._solved[2]

    def _apart(self, stored: str) -> float:
        """Variance a scheme has to itself beyond the usual, by how far its runs lie from what schemes usually share.

        A scheme the theory knows badly (a step that does not follow the weights, say) must not mislead all others.
        """
        ys = [y for name, y in self.seen if _parts(name)[0] == stored]
        usual = 9 * (COMMON**2 + SCHEME**2 + WORD**2)
        return max(ABSOLUTE**2 * ("floor=True" in stored), float(np.mean(ys)) ** 2 - usual if ys else 0.0)

    def _quantile(self, coverage: float) -> float:
        """Deviations an interval must reach out."""
        count, prior = len(self.seen), student(coverage, FREEDOM)
        rank = math.ceil((count + 1) * coverage)
        if count == 0 or rank > count:
            return prior
        inverse, weighted = self._solve()
        # Leave-one-out in closed form: residual (K⁻¹y)_i / K⁻¹_ii with variance 1 / K⁻¹_ii.
        residuals = np.sort(np.abs(weighted) / np.sqrt(np.diag(inverse)))
        return float(residuals[rank - 1])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"seen": [[scheme, y] for scheme, y in self.seen]}

    @staticmethod
    def from_json(body: dict[str, Any]) -> Calibration:
        """Read `to_json`'s output."""
        return Calibration([(str(scheme), float(y)) for scheme, y in body.get("seen", [])])


def covariance(one: str, other: str) -> float:
    """How much the deviations of two runs have in common."""
    (scheme, words, training), (scheme2, words2, training2) = _parts(one), _parts(other)
    shared = WORD**2 * len(words & words2) / max(1, len(words | words2))
    taught = TRAINING**2 * len(training & training2)
    return COMMON**2 + SCHEME**2 * (scheme == scheme2) + shared + taught


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
