"""Calibration: the ratio of true to predicted size, learned per scheme from finished runs, with an interval.

Within one scheme the ratio repeats to a few tenths of a percent; between schemes it does not. Every observation is
y = log(true / predicted) bytes of packed weights (code is known exactly and stays outside).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

THEORY = 0.02  # deviation of y over schemes never seen, before anything was learned
LEAST = 0.001  # no interval is built on a smaller deviation than this: seeds alone move real files that much
PRIOR_RUNS = 3.0  # how many observations the prior deviation inside a scheme counts for
WITHIN = 0.004  # that deviation


@dataclass
class Calibration:
    """Observations per scheme. Empty, it returns the theory with a wide interval."""

    seen: dict[str, list[float]] = field(default_factory=dict)

    def learn(self, scheme: str, predicted: float, actual: float) -> None:
        """Add a finished run: bytes of packed weights as theory predicted them and as they came out.

        Raises:
            ValueError: one of them is not positive.
        """
        if predicted <= 0 or actual <= 0:
            raise ValueError(f"calibration: predicted={predicted} and actual={actual} bytes must both be positive.")
        self.seen.setdefault(scheme, []).append(math.log(actual / predicted))

    def interval(self, scheme: str, coverage: float = 0.9) -> tuple[float, float, float]:
        """Low, middle and high ratio of true to predicted bytes.

        A scheme never seen: the mean of the schemes seen, and the spread between them. A scheme seen a few times: a
        Student interval around its mean. From ⌈1/(1 − coverage)⌉ runs on: split-conformal over leave-one-out residuals,
        which holds whatever their distribution.

        Raises:
            ValueError: ``coverage`` is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise ValueError(f"calibration: coverage={coverage} must lie between 0 and 1.")
        mine = self.seen.get(scheme, [])
        middle, half = self._unseen(coverage) if not mine else self._known(mine, coverage)
        return math.exp(middle - half), math.exp(middle), math.exp(middle + half)

    def _unseen(self, coverage: float) -> tuple[float, float]:
        means = [sum(ys) / len(ys) for ys in self.seen.values()]
        # The theory counts as one more scheme with y = 0, so that a single odd one does not carry the whole estimate.
        middle = sum(means) / (len(means) + 1)
        spread = sum((m - middle) ** 2 for m in means) + middle**2
        deviation = math.sqrt((spread + PRIOR_RUNS * THEORY**2) / (len(means) + PRIOR_RUNS))
        return middle, student(coverage, len(means) + PRIOR_RUNS) * deviation * math.sqrt(1 + 1 / (len(means) + 1))

    def _known(self, mine: list[float], coverage: float) -> tuple[float, float]:
        count, middle = len(mine), sum(mine) / len(mine)
        rank = math.ceil((count + 1) * coverage)
        if rank <= count:
            residuals = sorted(abs(y - (sum(mine) - y) / (count - 1)) for y in mine)
            return middle, max(residuals[rank - 1], LEAST)
        squares, freedom = PRIOR_RUNS * WITHIN**2, PRIOR_RUNS
        for ys in self.seen.values():
            mean = sum(ys) / len(ys)
            squares, freedom = squares + sum((y - mean) ** 2 for y in ys), freedom + len(ys) - 1
        deviation = max(math.sqrt(squares / freedom), LEAST)
        return middle, student(coverage, freedom) * deviation * math.sqrt(1 + 1 / count)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"seen": {scheme: list(ys) for scheme, ys in self.seen.items()}}

    @staticmethod
    def from_json(body: dict[str, Any]) -> Calibration:
        """Read `to_json`'s output."""
        return Calibration({str(scheme): [float(y) for y in ys] for scheme, ys in body.get("seen", {}).items()})


def student(coverage: float, freedom: float) -> float:
    """Two-sided Student quantile by the Cornish-Fisher expansion; within 2 % from three degrees of freedom on."""
    z = NormalDist().inv_cdf((1 + coverage) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
