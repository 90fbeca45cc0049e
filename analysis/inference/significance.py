"""Significance: multiple testing, power, the challenge\'s own rule, and the number of seeds still needed.

Differences are ``new − old`` in bits per byte unless a name says nats; negative is better.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, stats

RULE_NATS = 0.005  # what a record must beat the best by, per token
RULE_P = 0.01
ACCEPTED_P = 0.25  # one-sided, by which rows of the leaderboard were accepted
FIXED_NATS = 0.004  # per token: (target − mean)·√n of modded-nanogpt's optimisation track
POWER_Z = float(stats.norm.ppf(0.8))
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


def record_rules(
    new: np.ndarray,
    old: np.ndarray,
    bytes_per_token: float,
    *,
    paired: bool = False,
    target: float | None = None,
    threshold: float | None = None,
    spread: float | None = None,
) -> pd.DataFrame:
    """The three rules by which records of this kind are judged, and what each of them needs next.

    *readme*: `record_rule`, better by 0.005 nats per token at one-sided p < 0.01. *accepted*: how rows of the leaderboard were
    accepted in practice, one-sided Welch p < 0.25 against the predecessor; no margin. *fixed*: modded-nanogpt's optimisation
    track, (target − mean)·√n of at least 0.004 nats; old runs play no part, and the spread of one run is taken as known, 0.0013
    nats (KellerJordan/modded-nanogpt, PR #273 and #323 and the track's rules).

    Args:
        new: (seeds,) bits per byte.
        old: (seeds,) bits per byte, in the same order of seeds if ``paired``.
        bytes_per_token: of the scored text; see `bits_per_byte`.
        paired: of the first rule: compare seed by seed.
        target: of the fixed rule, bits per byte; None is the mean of ``old``.
        threshold: of the fixed rule, bits per byte; None is 0.004 nats per token.
        spread: of one run, for the fixed rule's error rate, bits per byte; None is the standard deviation of ``new``.

    Returns:
        a row a rule: rule, asks; delta_bpb, against (what the mean must be below), statistic and limit (p and its level, or the
        fixed statistic and its threshold), passes; error_rate (probability of passing for a recipe just at what is asked);
        seeds_new, seeds_needed (with power 0.8 if the estimate is right: of each arm, or for the fixed rule of ``new``),
        next, doubt.

    Raises:
        ValueError: fewer than two runs of an arm, unequal arms that are paired, or a threshold or spread that is not positive.
    """
    if (threshold is not None and not threshold > 0) or (spread is not None and not spread > 0):
        raise ValueError(f"record_rules: got threshold={threshold!r} and spread={spread!r}; both must be positive, or None.")
    strict = record_rule(new, old, bytes_per_token, paired=paired).iloc[0]
    lenient = record_rule(new, old, bytes_per_token, nats=0.0, p=ACCEPTED_P).iloc[0]
    rows: list[tuple[Any, ...]] = []
    for name, row, level in (("readme", strict, RULE_P), ("accepted", lenient, ACCEPTED_P)):
        margin = "better" if row["margin_bpb"] == 0 else f"better by {row['margin_bpb']:.5f}"
        head = (name, f"{margin}, one-sided p < {level}", row["delta_bpb"], float(np.mean(old)) - row["margin_bpb"])
        rows.append((*head, row["p"], level, row["passes"], level, row["seeds_needed"], row["doubt"]))
    rows.append(_fixed(np.asarray(new, float), np.asarray(old, float), bytes_per_token, target, threshold, spread))
    names = ["rule", "asks", "delta_bpb", "against", "statistic", "limit", "passes", "error_rate", "seeds_needed", "doubt"]
    found = pd.DataFrame(rows, columns=names)
    found.insert(8, "seeds_new", len(new))
    found.insert(10, "next", [_next(row) for row in found.itertuples()])
    return found


def _fixed(
    new: np.ndarray,
    old: np.ndarray,
    bytes_per_token: float,
    target: float | None,
    threshold: float | None,
    spread: float | None,
) -> tuple[Any, ...]:
    """The row of the rule with a fixed statistic."""
    limit = bits_per_byte(FIXED_NATS, bytes_per_token) if threshold is None else threshold
    goal = float(old.mean()) if target is None else target
    sd = float(new.std(ddof=1)) if spread is None else spread
    gain = goal - float(new.mean())
    own = sd * math.sqrt(1 + (len(new) / len(old) if target is None else 0.0))  # a mean of old runs is no exact target
    rate = float(stats.norm.sf(limit / own)) if own > 0 else 0.0
    needed = max(1.0, math.ceil(((limit + POWER_Z * sd) / gain) ** 2)) if gain > 0 else math.inf
    doubt = []
    if spread is None and len(new) < 10:
        doubt.append(f"the spread of one run is known from {len(new)} runs only")
    if rate > RULE_P:
        doubt.append(f"if one run scatters by {sd:.5f}, it passes wrongly in {rate:.1%} of cases")
    head = ("fixed", f"(target − mean)·√n ≥ {limit:.5f}", float(new.mean() - old.mean()), goal)
    return (*head, gain * math.sqrt(len(new)), limit, gain * math.sqrt(len(new)) >= limit, rate, needed, "; ".join(doubt))


def _next(row: Any) -> str:
    """What a rule needs next, in words."""
    needed, seeds, each = row.seeds_needed, row.seeds_new, "of `new`" if row.rule == "fixed" else "of each"
    if row.passes:
        return "nothing"
    if math.isinf(needed):
        return "a better recipe: the estimate is not beyond what is asked"
    if needed <= seeds:
        return f"one more seed {each}: {needed:.0f} are enough in four of five cases, and these were not"
    more = round(needed - seeds)
    return f"{more} more seed{'' if more == 1 else 's'} {each}, {needed:.0f} in all"
