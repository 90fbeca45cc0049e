"""How to spend a budget on the rungs of a ladder: one more seed where the variance of the prediction falls most per second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from golflab.analysis.ladder.forecast import FULL_EFFECT, FULL_PARAMETERS, FULL_TOKENS_PER_PARAMETER, Ladder, coordinates
from golflab.analysis.ladder.hierarchy import MIDDLE, SPREAD, Array, features, levy, own_and_common
from golflab.analysis.ladder.noise import SHARES

FIRST_SEEDS = 2  # one seed shows no spread, so a rung that is run at all gets two
MAX_SEEDS = 64
PRIOR_DRAWS = 64
NEEDED = ["parameters", "tokens_per_parameter", "seconds", "noise"]


@dataclass(frozen=True)
class Allocation:
    """Seeds by rung, and what they are expected to tell.

    Attributes:
        rungs: the rungs given, with the column ``seeds``.
        half_width: expected half of the prediction interval at full scale, bits per byte, of a technique with the rungs' noise.
        half_width_quiet: the same for a technique whose measurements have hardly any noise (one that acts after training).
        seconds: of all runs that are new.
    """

    rungs: pd.DataFrame
    half_width: float
    half_width_quiet: float
    seconds: float


def prior_thetas(count: int = PRIOR_DRAWS) -> Array:
    """(count, 9) values of the model's numbers before any run, evenly spread over their prior."""
    even = stats.qmc.Halton(len(MIDDLE), scramble=False).random(count + 1)[1:]
    return np.asarray(MIDDLE + SPREAD * stats.norm.ppf(even))


def allocate(
    rungs: pd.DataFrame,
    budget: float | None = None,
    *,
    thetas: Array | None = None,
    done: NDArray[np.int64] | None = None,
    parameters: float = FULL_PARAMETERS,
    tokens_per_parameter: float = FULL_TOKENS_PER_PARAMETER,
    level: float = 0.9,
) -> Allocation:
    """Choose the number of seeds on every rung.

    Args:
        rungs: parameters, tokens_per_parameter, seconds (the price of one seed of all arms), noise (standard deviation of one
            seed's difference).
        budget: seconds to spend; None gives every rung two seeds.
        thetas: draws of the model's numbers; from the prior by default.
        done: seeds that have run on each rung already, which cost nothing.
        parameters: of the model that is predicted.
        tokens_per_parameter: that it is trained on.
        level: of the prediction intervals.

    Raises:
        ValueError: a column is missing, a number is not above 0, or the budget is too small for two rungs with two seeds each.
    """
    if missing := [name for name in NEEDED if name not in rungs]:
        raise ValueError(f"ladder: the rungs lack {', '.join(missing)}. They need the columns {', '.join(NEEDED)}.")
    if rungs.empty or not (rungs[NEEDED].to_numpy(float) > 0).all():
        raise ValueError("ladder: every rung needs parameters, tokens_per_parameter, seconds and noise above 0.")
    rungs = rungs.reset_index(drop=True)
    have = np.zeros(len(rungs), int) if done is None else np.asarray(done, int)
    model = _Expected(rungs, prior_thetas() if thetas is None else thetas, np.log([tokens_per_parameter, parameters]))
    prices = rungs["seconds"].to_numpy(float)
    seeds = np.maximum(have, FIRST_SEEDS) if budget is None else _greedy(model, prices, have, budget)
    z = float(stats.norm.ppf(0.5 + level / 2))
    quiet = z * model.variance(seeds, noise=1e-3) ** 0.5
    return Allocation(rungs.assign(seeds=seeds), z * model.variance(seeds) ** 0.5, quiet, float(prices @ (seeds - have)))


def measured_noise(ladder: Ladder, rungs: pd.DataFrame) -> Array:
    """(rungs,) standard deviation of one seed's difference: the median trained technique's on the rung that ran nearest.

    Args:
        ladder: of `golflab.analysis.ladder.forecast.fit`.
        rungs: parameters, tokens_per_parameter.
    """
    table = ladder.differences
    table = table if table[SHARES].all() else table[~table[SHARES]]  # what shares its training has hardly any
    one = (table["variance"] * table["replicates"]).groupby(table["rung"]).median()
    known = table.drop_duplicates("rung").set_index("rung").loc[one.index]
    gaps = np.abs(coordinates(rungs)[:, None] - coordinates(known)[None]).sum(axis=2)
    return np.asarray(np.sqrt(one.to_numpy(float)[gaps.argmin(axis=1)]))


def _greedy(model: _Expected, prices: Array, have: NDArray[np.int64], budget: float) -> NDArray[np.int64]:
    """Step by step the affordable seed that lowers the variance most per second."""
    seeds, left = have.copy(), budget
    if (seeds > 0).sum() < 2:
        cheapest = np.sort(prices)[: min(2, len(prices))].sum() * FIRST_SEEDS
        if cheapest > budget:
            raise ValueError(
                f"ladder: a budget of {budget:.0f} seconds of all workers is too small: the two cheapest rungs with "
                f"{FIRST_SEEDS} seeds each take about {cheapest:.0f}. Raise --budget, or name fewer techniques or rungs."
            )
    while True:
        now, best, gain = model.variance(seeds), -1, 0.0
        for r, price in enumerate(prices):
            step = max(1, FIRST_SEEDS - seeds[r])
            if step * price > left or seeds[r] + step > MAX_SEEDS:
                continue
            more = seeds.copy()
            more[r] += step
            falls = (now - model.variance(more)) / (step * price)
            if falls > gain:
                best, gain = r, falls
        if best < 0:
            return seeds
        step = max(1, FIRST_SEEDS - seeds[best])
        seeds[best] += step
        left -= step * prices[best]


class _Expected:
    """Expected variance of the prediction at full scale for one technique, averaged over θ."""

    def __init__(self, rungs: pd.DataFrame, thetas: Array, full: Array) -> None:
        at = coordinates(rungs)
        where = np.vstack([full, at]) - at.mean(axis=0)
        field = levy(where, where)
        self.noise = rungs["noise"].to_numpy(float) ** 2
        self.prior = np.array(
            [_covariance(theta, features(where, theta), field) for theta in thetas]
        )  # (draws, 1 + rungs, 1 + rungs)

    def variance(self, seeds: NDArray[np.int64], noise: float | None = None) -> float:
        """Of the effect at full scale, once every rung has so many seeds."""
        run = np.flatnonzero(seeds)
        if not len(run):
            return _with_prior(self.prior[:, 0, 0])
        each = self.noise[run] if noise is None else np.full(len(run), noise**2)
        inner = self.prior[:, 1 + run[:, None], 1 + run] + np.diag(each / seeds[run])
        cross = self.prior[:, 0, 1 + run]
        solved = np.linalg.solve(inner, cross[..., None])[..., 0]
        return _with_prior(self.prior[:, 0, 0] - (cross * solved).sum(axis=1))


def _with_prior(variance: Array) -> float:
    """Mean of (draws,) variances at full scale, each beside the prior `FULL_EFFECT`."""
    return float(np.mean(variance * FULL_EFFECT**2 / (variance + FULL_EFFECT**2)))


def _covariance(theta: Array, phi: Array, field: Array) -> Array:
    """Of one technique's effects at points, its shared mean included."""
    own, common = own_and_common(theta)
    return np.asarray(phi @ (own + common) @ phi.T + np.exp(2 * theta[5]) * field + np.exp(2 * theta[6]) * np.eye(len(phi)))
