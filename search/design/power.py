"""How small an effect a set of runs can show, before anything is run."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from golflab.model.recipe import Recipe
from golflab.search.design.matrices import Combination

# Standard deviation of one run, bits per byte. At full scale: the median of 23 published submissions. At smaller scales: what
# remains of 0.014 between seeds when all combinations share seeds, at 0.6 million tokens. An experiment measures its own.
NOISE_FULL, NOISE_SMALL = 0.0007, 0.004


def usual_noise(preset: Recipe) -> float:
    """Standard deviation of one run that is usual at a preset's scale, bits per byte."""
    return NOISE_FULL if (preset.schedule.tokens or 10**9) >= 10**8 else NOISE_SMALL


def detectable(df: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Size, in standard errors, of the smallest effect that a two-sided t test detects (search may not import analysis)."""
    crit = float(stats.t.ppf(1 - alpha / 2, df))
    low, high = 0.0, crit + 1.0
    while stats.nct.sf(crit, df, high) < power:
        high *= 1.5
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if stats.nct.sf(crit, df, middle) < power else (low, middle)
    return high


def resolution(kept: list[Combination], names: list[str], seeds: int, noise: float) -> tuple[float, float, list[str]]:
    """Median standard error, smallest detectable effect (5 % level, 80 % power), and techniques that cannot be told apart."""
    rows = np.array([[1.0, *(0.5 if n in c else -0.5 for n in names)] for c in kept])
    values, vectors = np.linalg.eigh(rows.T @ rows)
    null = vectors[:, values < 1e-9 * len(rows)]
    seen = (null[1:] ** 2).sum(axis=1) < 1e-8
    blind = [n for n, s in zip(names, seen, strict=True) if not s]
    df = len(kept) * seeds - (len(names) + 1 - null.shape[1]) - (seeds - 1)
    variance = np.diag(np.linalg.pinv(rows.T @ rows, hermitian=True))[1:][seen] / seeds
    se = noise * float(np.sqrt(np.median(variance))) if seen.any() else math.nan
    return se, se * detectable(df) if df >= 1 else math.inf, blind
