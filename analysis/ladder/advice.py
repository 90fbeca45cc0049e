"""The cheapest further run that would change a verdict, worked out before it is paid for."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from golflab.analysis.ladder.forecast import SURE, VERDICTS, Ladder, chances, coordinates
from golflab.analysis.ladder.hierarchy import Array

SEEDS = (1, 2, 4, 8, 16, 32)
OUTCOMES = stats.norm.ppf((np.arange(21) + 0.5) / 21)  # of a further measurement, in standard deviations of what is expected
DRAWS = stats.norm.ppf(stats.qmc.Halton(2, scramble=False).random(257)[1:])  # (256, 2)
LIKELY = 0.5
NEEDED = ["scale", "parameters", "tokens_per_parameter", "seconds"]
COLUMNS = ["technique", "further_scale", "further_tokens_per_parameter", "further_seeds", "further_seconds", "further_chance"]


def further_runs(ladder: Ladder, candidates: pd.DataFrame) -> pd.DataFrame:
    """For every technique the cheapest run after which another verdict than today's is more likely than not.

    For each rung and number of seeds, 21 outcomes spread as the model expects them are each added to what is known, and the
    verdict is given again. The model's own numbers θ are kept as they are.

    Args:
        ladder: of `golflab.analysis.ladder.forecast.fit`.
        candidates: a row per rung that could be run: scale, parameters, tokens_per_parameter, and seconds, the price of one
            seed with the technique and without it.

    Returns:
        technique; further_scale, further_tokens_per_parameter, further_seeds and further_seconds of that run, and
        further_chance, the probability that the verdict changes. Where no candidate reaches one half, the one with the largest
        chance stands there with its chance.

    Raises:
        ValueError: a column is missing, or no candidate is given.
    """
    if missing := [name for name in NEEDED if name not in candidates]:
        raise ValueError(f"ladder: the candidates lack {', '.join(missing)}. They need the columns {', '.join(NEEDED)}.")
    if candidates.empty:
        raise ValueError("ladder: no candidate for a further run is given.")
    rungs = candidates.reset_index(drop=True)
    mean, covariance = ladder.posterior(coordinates(rungs)).moments()
    noise = _noise(ladder, coordinates(rungs))
    rows = []
    for k, name in enumerate(ladder.names):
        options = [
            (float(row.seconds) * seeds, _chance(mean[k], covariance[k], 2 + r, noise[k, r] / seeds), seeds, row)
            for r, row in enumerate(rungs.itertuples(index=False))
            for seeds in SEEDS
        ]
        likely = [option for option in options if option[1] >= LIKELY]
        price, chance, seeds, row = min(likely, key=lambda o: o[0]) if likely else max(options, key=lambda o: (o[1], -o[0]))
        rows.append((name, row.scale, row.tokens_per_parameter, seeds, price, chance))
    return pd.DataFrame(rows, columns=COLUMNS)


def _chance(mean: Array, covariance: Array, at: int, noise: float) -> float:
    """Probability that measuring point ``at`` with this noise changes the verdict on points 0 and 1."""
    spread = np.sqrt(covariance[at, at] + noise)
    gain = covariance[:2, at] / spread
    root = np.linalg.cholesky(covariance[:2, :2] - np.outer(gain, gain) + 1e-14 * np.eye(2))
    today = _verdict(mean[None, :2] + DRAWS @ np.linalg.cholesky(covariance[:2, :2] + 1e-14 * np.eye(2)).T)
    draws = (DRAWS @ root.T)[:, None, :] + mean[:2] + OUTCOMES[:, None] * gain  # (draws, outcomes, 2)
    return float(np.mean(_verdict(draws) != today))


def _verdict(draws: Array) -> np.ndarray:
    """(…,) number of the verdict on draws (draws, …, 2)."""
    told = chances(draws[..., 0], draws[..., 1])
    found = np.full(draws.shape[1:-1], len(VERDICTS) - 1)
    for name in ("persists", "fades", "grows", "flips"):
        found = np.where(told[name] >= SURE, VERDICTS.index(name), found)
    return found


def _noise(ladder: Ladder, points: Array) -> Array:
    """(techniques, points) variance of one seed's difference: what the technique has on the nearest rung that it ran on."""
    table, out = ladder.differences, np.zeros((len(ladder.names), len(points)))
    for k, name in enumerate(ladder.names):
        mine = table[table["technique"] == name]
        gaps = np.abs(points[:, None] - coordinates(mine)[None]).sum(axis=2)
        out[k] = (mine["variance"] * mine["replicates"]).to_numpy(float)[gaps.argmin(axis=1)]
    return out
