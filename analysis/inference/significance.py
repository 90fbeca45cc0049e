"""Significance: multiple testing, power, the challenge\'s own rule, and the number of seeds still needed.

Differences are ``new − old`` in bits per byte unless a name says nats; negative is better.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import optimize, stats

RULE_NATS = 0.005  # what a record must beat the best by, per token
RULE_P = 0.01
MOST_SEEDS = 2**22  # more than anybody trains


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down p-values (family-wise error), NaN kept and not counted."""
    out, order = np.full(len(p), np.nan), np.argsort(p)  # NaN comes last
    order = order[: np.isfinite(np.asarray(p, float)).sum()]
    steps = np.asarray(p, float)[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return out


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's q-values (false discovery rate), NaN kept and not counted."""
    out, p = np.full(len(p), np.nan), np.asarray(p, float)
    known = np.isfinite(p)
    if known.any():
        out[known] = stats.false_discovery_control(p[known])
    return out


@lru_cache(maxsize=4096)
def detectable(df: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Size, in standard errors, of the smallest effect that a two-sided t test with ``df`` detects with this power."""
    if not df >= 1:
        return math.nan
    if df > 1000:
        return float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power))
    goal, high = power, 1.0
    while _seen(high, df, alpha) < goal:
        high *= 1.5
    return float(optimize.brentq(lambda nc: _seen(nc, df, alpha) - goal, 0.0, high))


def power(effect: float, se: float, df: float, alpha: float = 0.05) -> float:
    """Power of a two-sided t test at ``alpha`` for a true ``effect``, given its standard error and degrees of freedom."""
    return _seen(abs(effect) / se, df, alpha)


def _seen(nc: float, df: float, alpha: float) -> float:
    """Power of the two-sided t test at noncentrality ``nc``; the far tail, too small for scipy's series, counts as 0."""
    crit = stats.t.ppf(1 - alpha / 2, df)
    return float(stats.nct.sf(crit, df, nc) + np.nan_to_num(stats.nct.cdf(-crit, df, nc)))


def bits_per_byte(nats: float, bytes_per_token: float) -> float:
    """Nats per token as bits per byte of a text with that many bytes per token."""
    return nats / math.log(2) / bytes_per_token


def record_rule(
    new: np.ndarray,
    old: np.ndarray,
    bytes_per_token: float,
    *,
    nats: float = RULE_NATS,
    p: float = RULE_P,
    paired: bool = False,
) -> pd.DataFrame:
    """The challenge's rule: is ``new`` better than ``old`` by at least ``nats`` per token at one-sided ``p``?

    Args:
        new: (seeds,) bits per byte.
        old: (seeds,) bits per byte, in the same order of seeds if ``paired``.
        bytes_per_token: of the scored text; see `bits_per_byte`.
        nats: margin.
        p: level.
        paired: compare seed by seed. The correlation that this uses is in the result; unpaired is Welch's t test.

    Returns:
        one row: margin_bpb, delta_bpb, se, low, high (95 %), t, df, p (of not beating the margin), correlation, seeds_new,
        seeds_old, seeds_needed (per arm, for power 0.8 if the estimate is right), passes, doubt.
    """
    new, old = np.asarray(new, float), np.asarray(old, float)
    if len(new) < 2 or len(old) < 2 or (paired and len(new) != len(old)):
        raise ValueError(
            f"record_rule: got {len(new)} and {len(old)} runs; it needs at least 2 of each, and equally many if paired."
        )
    margin = bits_per_byte(nats, bytes_per_token)
    delta, se, df, correlation = _difference(new, old, paired)
    shifted = delta + margin
    t = shifted / se if se > 0 else math.copysign(math.inf, shifted)
    chance = float(stats.t.cdf(t, df))
    half = float(stats.t.ppf(0.975, df)) * se
    per_run = se**2 * len(new) if paired else (np.var(new, ddof=1) + np.var(old, ddof=1))
    needed = seeds_needed(-shifted, math.sqrt(per_run), p) if shifted < 0 else math.inf
    doubt = []
    if df < 3:
        doubt.append(f"only {df:.1f} degrees of freedom: the error itself is badly known")
    if shifted >= 0:
        doubt.append("the estimate does not exceed the margin, so more seeds alone would not help")
    row = {
        "margin_bpb": margin,
        "delta_bpb": delta,
        "se": se,
        "low": delta - half,
        "high": delta + half,
        "t": t,
        "df": df,
        "p": chance,
        "correlation": correlation,
        "seeds_new": len(new),
        "seeds_old": len(old),
        "seeds_needed": needed,
        "passes": chance < p,
        "doubt": "; ".join(doubt),
    }
    return pd.DataFrame([row])


def _difference(new: np.ndarray, old: np.ndarray, paired: bool) -> tuple[float, float, float, float]:
    """Mean difference, its standard error, degrees of freedom and the correlation between the arms (NaN if unpaired)."""
    delta = float(new.mean() - old.mean())
    if paired:
        gaps = new - old
        flat = new.std() == 0 or old.std() == 0
        correlation = math.nan if flat else float(np.corrcoef(new, old)[0, 1])
        return delta, float(gaps.std(ddof=1) / math.sqrt(len(gaps))), len(gaps) - 1.0, correlation
    a, b = new.var(ddof=1) / len(new), old.var(ddof=1) / len(old)
    df = (a + b) ** 2 / (a**2 / (len(new) - 1) + b**2 / (len(old) - 1)) if a + b > 0 else len(new) + len(old) - 2.0
    return delta, math.sqrt(a + b), float(df), math.nan


def seeds_needed(gain: float, spread: float, p: float = RULE_P, power: float = 0.8) -> float:
    """Seeds per arm with which a one-sided t test at ``p`` detects ``gain`` with this power.

    Args:
        gain: true improvement beyond the margin, positive.
        spread: standard deviation of one difference: of a pair, or √2 of a run's where runs are not paired.
    """
    if gain <= 0:
        return math.inf

    def enough(n: int) -> bool:
        return bool(stats.nct.sf(stats.t.ppf(1 - p, n - 1), n - 1, gain / spread * math.sqrt(n)) >= power)

    few, many = 1, 2
    while not enough(many):
        few, many = many, 2 * many
        if many > MOST_SEEDS:
            return math.inf
    while many - few > 1:  # more seeds never have less power
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return float(many)


def probability_better(new: np.ndarray, old: np.ndarray, by: float = 0.0, paired: bool = False) -> pd.DataFrame:
    """P(A beats B): that the next single run of ``new`` is better than the next of ``old`` by at least ``by`` bits per byte.

    `p_run` is the empirical share over all pairs (Mann and Whitney; Bouthillier et al. 2021) with a bootstrap interval
    over seeds; ``p_mean`` the confidence that the *mean* of ``new`` is better, from the t distribution.
    """
    new, old = np.asarray(new, float), np.asarray(old, float)

    def share(a: np.ndarray, b: np.ndarray) -> float:
        gaps = (a - b) if paired else (a[:, None] - b[None, :])
        return float((gaps < -by).mean() + 0.5 * (gaps == -by).mean())

    generator = np.random.default_rng(0)
    draws = []
    for _ in range(2000):
        i = generator.integers(len(new), size=len(new))
        draws.append(share(new[i], old[i] if paired else old[generator.integers(len(old), size=len(old))]))
    low, high = np.quantile(draws, [0.025, 0.975])
    delta, se, df, _ = (
        _difference(new, old, paired)
        if min(len(new), len(old)) > 1
        else (float(new.mean() - old.mean()), math.nan, 1.0, math.nan)
    )
    row = {
        "p_run": share(new, old),
        "low": low,
        "high": high,
        "p_mean": float(stats.t.cdf(-(delta + by) / se, df)) if se > 0 else math.nan,
        "runs_new": len(new),
        "runs_old": len(old),
        "doubt": "few seeds: the interval is optimistic" if min(len(new), len(old)) < 5 else "",
    }
    return pd.DataFrame([row])
