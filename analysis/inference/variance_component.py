"""The spread between groups of runs (machines), with an exact interval."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, stats

from golflab.analysis.inference.design_matrix import pseudo_inverse

MOST = 1e12  # of the ratio of variances


def group_spread(gram: np.ndarray, groups: list[int], runs: int, level: float = 0.95) -> tuple[float, float, float]:
    """Standard deviation between groups: its median-unbiased estimate, and the ends of its interval.

    Wald's (1941) exact test of a ratio of variances, for unequal groups and any other columns (Harville and Fenech, 1985): the
    groups' scatter, weighted as a ratio asks, over the residual variance follows an F distribution at the true ratio. The
    estimate is the ratio at which it meets the median. The interval takes the residual variance as known.

    Args:
        gram: (size + 1, size + 1) cross products of the columns, an intercept among them, and last the response.
        groups: indices of the columns that stand for all groups but one, as dummies, centred or not.
        runs: number of rows behind ``gram``.
        level: of the interval.

    Returns:
        sd, low, high, in units of the response; NaN if no degree of freedom is left.
    """
    others = [k for k in range(len(gram) - 1) if k not in set(groups)]
    kept = [*groups, len(gram) - 1]
    inverse, null = pseudo_inverse(gram[np.ix_(others, others)])
    left = gram[np.ix_(kept, kept)] - gram[np.ix_(kept, others)] @ inverse @ gram[np.ix_(others, kept)]
    own, along = left[:-1, :-1], left[:-1, -1]
    within, unseen = pseudo_inverse(own)
    df = runs - (len(gram) - 1 - null.shape[1] - unseen.shape[1])
    residual = float(left[-1, -1] - along @ within @ along) / max(df, 1)
    every = np.vstack([-np.ones(len(groups)), np.eye(len(groups))])  # the group without a column is minus the sum of the others
    values, vectors = np.linalg.eigh(every @ own @ every.T)
    seen = values > 1e-9 * max(values.max(), 1e-300)
    if df < 1 or not seen.any() or residual <= 0:
        return math.nan, math.nan, math.nan
    values = values[seen]
    squares = (vectors[:, seen].T @ (every @ along)) ** 2 / values / residual

    def ratio(share: float) -> float:
        """The ratio of variances at which the groups' scatter meets this quantile of F."""
        goal = stats.f.ppf(share, len(values), df)
        gap = lambda log: float(np.mean(squares / (1 + np.exp(log) * values)) - goal)
        lowest = -30.0
        if gap(lowest) <= 0:
            return 0.0
        return MOST if gap(math.log(MOST)) > 0 else math.exp(optimize.brentq(gap, lowest, math.log(MOST)))

    sd, low, high = (math.sqrt(ratio(share) * residual) for share in (0.5, 0.5 + level / 2, 0.5 - level / 2))
    return sd, low, high
