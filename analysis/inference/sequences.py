"""Sequences of intervals that hold at all times at once: one may look after every seed, and stop when they decide."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from golflab.analysis.inference.significance import RULE_NATS, RULE_P, bits_per_byte


def confidence_sequence(
    differences: np.ndarray, spread: float | None = None, level: float = 0.95, tuned_for: int = 10
) -> pd.DataFrame:
    """Intervals for a mean difference, one after each difference. All of them together hold it with probability ``level``.

    The standard deviation is estimated from the differences. So the first intervals are infinite: there is no telling the mean
    from so few. The intervals are those of the sequential t test with a normal prior on mean / standard deviation (Lai, 1976;
    Wang and Ramdas, 2023, "Anytime-valid t-tests"). With a known standard deviation they are Robbins' normal mixture (Howard,
    Ramdas, McAuliffe and Sekhon, 2021), and narrower.

    Args:
        differences: (n,) bits per byte, in the order in which they came; independent and normal.
        spread: standard deviation of one difference, if it is known exactly. An estimate from a few earlier seeds is not: with
            three of them, intervals at 95 % would miss the mean in more than a quarter of all sequences.
        level: coverage over all times.
        tuned_for: the number of differences at which the intervals are to be tight.

    Returns:
        a row after each difference: n, mean, low, high, decided (the interval excludes zero), decided_at_n (the first such
        n; NaN if there is none).

    Raises:
        ValueError: no differences, or a spread that is not positive.
    """
    x = np.asarray(differences, float)
    if len(x) == 0 or (spread is not None and not spread > 0):
        raise ValueError(
            f"confidence_sequence: got {len(x)} differences and spread={spread!r}; it needs one at least and a positive spread."
        )
    n = np.arange(1, len(x) + 1)
    mean = np.cumsum(x) / n
    rho = tuned_for / (2 * math.log(1 / (1 - level)) + math.log(1 + 2 * math.log(1 / (1 - level))))  # near the optimum there
    half = _half_unknown(x, 1 - level, rho) if spread is None else spread * _half_known(n, 1 - level, rho)
    decided = (mean - half > 0) | (mean + half < 0)
    first = float(n[decided][0]) if decided.any() else math.nan
    return pd.DataFrame(
        {"n": n, "mean": mean, "low": mean - half, "high": mean + half, "decided": decided, "decided_at_n": first}
    )


def _half_known(n: np.ndarray, alpha: float, rho: float) -> np.ndarray:
    """Half widths in standard deviations."""
    return np.sqrt((n + rho) * np.log((n + rho) / (rho * alpha**2))) / n


def _half_unknown(x: np.ndarray, alpha: float, rho: float) -> np.ndarray:
    """Half widths: the means that the sequential t test does not refuse. Infinite as long as it can refuse none.

    With the prior N(0, 1/rho) on mean / standard deviation, u = t² / (n − 1) and q = 1 + n / rho, its Bayes factor is
    ((1 + u) / (1 + u / q))^(n / 2) / √q. It is a test martingale: it reaches 1 / alpha with probability alpha at most.
    """
    n = np.arange(1, len(x) + 1)
    squares = np.cumsum((x - x[0]) ** 2) - np.cumsum(x - x[0]) ** 2 / n  # n times the variance, from where the data lie
    q = 1 + n / rho
    ratio = (q / alpha**2) ** (1 / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.where((ratio < q) & (n > 1), (ratio - 1) / (1 - ratio / q), np.inf)
        return np.where(np.isinf(u), np.inf, np.sqrt(np.maximum(squares, 0) / n * u))


def record_sequence(
    new: np.ndarray, old: np.ndarray, bytes_per_token: float, *, nats: float = RULE_NATS, p: float = RULE_P
) -> pd.DataFrame:
    """The challenge's rule, asked after every seed: is ``new`` better than ``old`` by at least ``nats`` per token?

    Unlike `record_rule`, it may be asked again with each further seed. The probability that it ever passes wrongly is at most
    ``p`` (the intervals hold at 1 − 2p for both sides together). It needs six seeds at least with the rule's own ``p``.

    Args:
        new: (n,) bits per byte, in the order of the seeds.
        old: (n,) the same seeds of what is to be beaten.
        bytes_per_token: of the scored text.
        nats: margin per token.
        p: level, one-sided.

    Returns:
        as `confidence_sequence`, for the difference new − old, with ``passes`` instead of ``decided`` and ``passed_at_n``.

    Raises:
        ValueError: the two are not of one length.
    """
    new, old = np.asarray(new, float), np.asarray(old, float)
    if new.shape != old.shape:
        raise ValueError(f"record_sequence: got {len(new)} and {len(old)} runs; it needs the same seeds of both, in one order.")
    found = confidence_sequence(new - old, level=1 - 2 * p).drop(columns=["decided", "decided_at_n"])
    passes = found["high"] < -bits_per_byte(nats, bytes_per_token)
    first = float(found["n"][passes].iloc[0]) if passes.any() else math.nan
    return found.assign(passes=passes, passed_at_n=first)
