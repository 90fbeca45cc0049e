"""Does a ladder predict? Its predictions against a rung that was held out, or against effects that others measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from golflab.analysis.ladder.forecast import fit, predict
from golflab.analysis.ladder.noise import RUNG, checked, variances

WAYS = {"ladder": "delta_full", "smallest rung": "smallest", "largest rung": "largest"}
COLUMNS = ["way", "techniques", "signs", "signs_low", "signs_high", "rank_correlation", "error", "coverage"]


def held_out(differences: pd.DataFrame, *, level: float = 0.9) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fit on all rungs but the dearest (most training operations), and predict that one.

    Args:
        differences: see `golflab.analysis.ladder.noise.checked`.
        level: of the prediction intervals.

    Returns:
        the columns of `golflab.analysis.ladder.forecast.predict` with measured and measured_se beside, where the interval is
        widened by the error of what was measured; and the summary of `agreement`.

    Raises:
        ValueError: fewer than three rungs, or no technique was measured on the dearest and on another.
    """
    table = checked(differences)
    table["variance"] = variances(table)
    work = table["parameters"] ** 2 * table["tokens_per_parameter"]
    if len(table[RUNG].drop_duplicates()) < 3:
        raise ValueError("ladder: holding out a rung needs three rungs or more.")
    top = table[work == work.max()]
    rest = table[work < work.max()]
    parameters, duration = top[RUNG].iloc[0]
    told = predict(fit(rest.drop(columns="variance"), parameters=parameters, tokens_per_parameter=duration), level=level)
    truth = top.assign(measured=top["delta_bpb"], measured_se=np.sqrt(top["variance"]))
    told = told.merge(truth[["technique", "measured", "measured_se"]], on="technique")
    if told.empty:
        raise ValueError("ladder: no technique was measured both on the dearest rung and on another.")
    return _widened(told, level), agreement(_widened(told, level))


def against(predictions: pd.DataFrame, published: pd.DataFrame, *, level: float = 0.9) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions at full scale beside effects that others measured there.

    Args:
        predictions: of `golflab.analysis.ladder.forecast.predict`.
        published: technique, delta_bpb; several rows of a technique are averaged, and their spread is their error.
        level: of the intervals.

    Returns:
        the predictions with measured and measured_se; and the summary of `agreement`.

    Raises:
        ValueError: they have no technique in common.
    """
    by = published.groupby("technique")["delta_bpb"]
    truth = pd.DataFrame({"measured": by.mean(), "measured_se": (by.std() / np.sqrt(by.count())).fillna(0.0)}).reset_index()
    told = predictions.merge(truth, on="technique")
    if told.empty:
        raise ValueError("ladder: no technique was both predicted and published.")
    return _widened(told, level), agreement(_widened(told, level))


def agreement(told: pd.DataFrame) -> pd.DataFrame:
    """How well the ladder and the two naive ways agree with what was measured.

    The naive ways take the number of the ladder's cheapest rung, or of its dearest, as it is.

    Args:
        told: with delta_full, low, high, smallest, largest, measured.

    Returns:
        a row per way: techniques; signs, the share whose sign agrees, with its 95 % interval (Clopper and Pearson);
        rank_correlation (Spearman); error, the mean absolute one; coverage of the intervals, for the ladder only.
    """
    rows, count = [], len(told)
    for way, column in WAYS.items():
        right = int((np.sign(told[column]) == np.sign(told["measured"])).sum())
        exact = stats.binomtest(right, count).proportion_ci(0.95)
        rank = float(stats.spearmanr(told[column], told["measured"]).statistic) if count > 2 else np.nan
        error = float((told[column] - told["measured"]).abs().mean())
        inside = (told["low"] <= told["measured"]) & (told["measured"] <= told["high"])
        coverage = float(inside.mean()) if way == "ladder" else np.nan
        rows.append((way, count, right / count, exact.low, exact.high, rank, error, coverage))
    return pd.DataFrame(rows, columns=COLUMNS)


def _widened(told: pd.DataFrame, level: float) -> pd.DataFrame:
    """Intervals for a measured number: the prediction's half and the measurement's half, added in squares."""
    z = stats.norm.ppf(0.5 + level / 2)
    half = [np.hypot(told["delta_full"] - told["low"], z * told["measured_se"])]
    half += [np.hypot(told["high"] - told["delta_full"], z * told["measured_se"])]
    return told.assign(low=told["delta_full"] - half[0], high=told["delta_full"] + half[1])
