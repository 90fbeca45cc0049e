"""Does a ladder predict? Its predictions against a rung that was held out, or against effects that others measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from golflab.analysis.ladder.forecast import Ladder, fit, predict
from golflab.analysis.ladder.hierarchy import DRAWS, Array
from golflab.analysis.ladder.noise import RUNG, checked, variances

WAYS = {"ladder": "delta_full", "smallest rung": "smallest", "largest rung": "largest"}
LEVELS = (0.5, 0.8, 0.9)
COLUMNS = ["way", "techniques", "signs", "signs_low", "signs_high", "clear", "clear_signs", "rank_correlation", "rank_low"]
COLUMNS += ["rank_high", "error", "error_of_truth", *(f"coverage_{level * 100:.0f}" for level in LEVELS)]
RESAMPLES = 2000
FEWEST = 4  # techniques that a rank correlation needs


def held_out(
    differences: pd.DataFrame,
    *,
    parameters: float | None = None,
    tokens_per_parameter: float | None = None,
    draws: int = DRAWS,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict one rung from all rungs that need fewer training operations.

    What was measured there is not the truth: it has the error of its seeds. So the intervals are for the measured number. They
    are quantiles of the predicted effect plus the noise of that measurement, whose variance is the technique's own over seeds,
    moderated as the model moderates it. All techniques of the rung share the runs that they are compared with: their errors are
    correlated, and coverage over techniques scatters by more than as many coins would.

    Args:
        differences: see `golflab.analysis.ladder.noise.checked`.
        parameters: of the rung that is held out; by default, with ``tokens_per_parameter``, the dearest one.
        tokens_per_parameter: of that rung; by default the longest duration of that size.
        draws: of the model's numbers.

    Returns:
        the columns of `golflab.analysis.ladder.forecast.predict` with measured, measured_se, and low_50, high_50 … of the
        levels `LEVELS` beside; and the summary of `agreement`.

    Raises:
        ValueError: no such rung, fewer than two cheaper rungs, or no technique was measured there and on one of these.
    """
    table = checked(differences)
    table["variance"] = variances(table)
    top, rest = _split(table, parameters, tokens_per_parameter)
    size, duration = top[RUNG].iloc[0]
    ladder = fit(rest.drop(columns="variance"), parameters=size, tokens_per_parameter=duration, draws=draws)
    truth = top.assign(measured=top["delta_bpb"], measured_se=np.sqrt(top["variance"]))
    told = _beside(ladder, truth[["technique", "measured", "measured_se"]])
    if told.empty:
        raise ValueError("ladder: no technique was measured both on the rung that is held out and on a cheaper one.")
    return told, agreement(told)


def against(ladder: Ladder, published: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions at full scale beside effects that others measured there.

    Args:
        ladder: of `golflab.analysis.ladder.forecast.fit`.
        published: technique, delta_bpb, se; one row a technique.

    Returns:
        as `held_out`: the intervals are for the published number, its error included.

    Raises:
        ValueError: a technique is there twice, or they have no technique in common.
    """
    if published["technique"].duplicated().any():
        raise ValueError("ladder: published effects need one row a technique. Combine several sources first.")
    truth = published.rename(columns={"delta_bpb": "measured", "se": "measured_se"})
    told = _beside(ladder, truth[["technique", "measured", "measured_se"]])
    if told.empty:
        raise ValueError("ladder: no technique was both predicted and published.")
    return told, agreement(told)


def agreement(told: pd.DataFrame) -> pd.DataFrame:
    """How well the ladder and the two naive ways agree with what was measured.

    The naive ways take the number of the ladder's cheapest rung, or of its dearest, as it is.

    Args:
        told: of `held_out` or `against`.

    Returns:
        a row per way: techniques; signs, the share whose sign agrees, with its 95 % interval (Wilson, 1927); clear, how many
        measured effects are further from 0 than 1.64 of their errors, and clear_signs, the share of right signs among them;
        rank_correlation (Spearman) with a 95 % interval from resampled techniques; error, the mean absolute one;
        error_of_truth, what it would be if all were predicted perfectly, by the errors of what was measured alone; and
        coverage_50 … of the intervals, for the ladder only.
    """
    truth, rows = told["measured"].to_numpy(float), []
    clear = np.abs(truth) > stats.norm.ppf(0.95) * told["measured_se"].to_numpy(float)
    floor = float(np.sqrt(2 / np.pi) * told["measured_se"].mean())
    for way, column in WAYS.items():
        guess = told[column].to_numpy(float)
        right = np.sign(guess) == np.sign(truth)
        share = stats.binomtest(int(right.sum()), len(right)).proportion_ci(0.95, method="wilson")
        low, high = _resampled_rank(guess, truth)
        row: tuple[object, ...] = (
            way,
            len(told),
            right.mean(),
            share.low,
            share.high,
            clear.sum(),
            right[clear].mean() if clear.any() else np.nan,
        )
        row += (_rank(guess, truth), low, high, float(np.abs(guess - truth).mean()), floor)
        rows.append(row + tuple(_coverage(told, level) if way == "ladder" else np.nan for level in LEVELS))
    return pd.DataFrame(rows, columns=COLUMNS)


def _split(
    table: pd.DataFrame, parameters: float | None, tokens_per_parameter: float | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the rung that is held out, and those of all rungs with fewer training operations."""
    work = table["parameters"] ** 2 * table["tokens_per_parameter"]
    here = pd.Series(True, table.index)
    for name, value in (("parameters", parameters), ("tokens_per_parameter", tokens_per_parameter)):
        if value is not None:
            here &= (table[name] / value - 1).abs() < 0.1  # durations are whole batches, so that 20 is 20.01
    if not here.any():
        there = ", ".join(f"{p:,.0f} × {d:.3g}" for p, d in table[RUNG].drop_duplicates().itertuples(index=False))
        asked = f"{parameters or 'any'} parameters × {tokens_per_parameter or 'any'} tokens per parameter"
        raise ValueError(f"ladder: no rung of {asked} to hold out. There are: {there}.")
    held = work == work[here].max()
    rest = table[work < work[here].max()]
    if len(rest[RUNG].drop_duplicates()) < 2:
        raise ValueError("ladder: holding out a rung needs two cheaper rungs or more.")
    return table[held], rest


def _beside(ladder: Ladder, truth: pd.DataFrame) -> pd.DataFrame:
    """Predictions with what was measured, and intervals for a number that is measured with this error."""
    told = predict(ladder).merge(truth, on="technique")
    draws = ladder.posterior().samples()[..., 1]
    errors = truth.set_index("technique")["measured_se"].reindex(ladder.names).fillna(0.0).to_numpy(float)
    draws = draws + errors * np.random.default_rng(0).standard_normal(draws.shape)
    for level in LEVELS:
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        edges = pd.DataFrame({"technique": ladder.names, f"low_{level * 100:.0f}": low, f"high_{level * 100:.0f}": high})
        told = told.merge(edges, on="technique")
    return told


def _coverage(told: pd.DataFrame, level: float) -> float:
    low, high = told[f"low_{level * 100:.0f}"], told[f"high_{level * 100:.0f}"]
    return float(((low <= told["measured"]) & (told["measured"] <= high)).mean())


def _rank(guess: Array, truth: Array) -> float:
    """Spearman's rank correlation; NaN where there are too few, or all are alike."""
    return np.nan if len(guess) < FEWEST else float(_ranks(guess[None], truth[None])[0])


def _ranks(guess: Array, truth: Array) -> Array:
    """Spearman's rank correlation of every row of two (rows, techniques); NaN where all of a row are alike."""
    a, b = (stats.rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (guess, truth))
    with np.errstate(invalid="ignore"):  # no spread at all is 0 / 0
        return np.asarray((a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)))


def _resampled_rank(guess: Array, truth: Array) -> tuple[float, float]:
    """95 % interval of the rank correlation over techniques, by resampling them."""
    if len(guess) < FEWEST:
        return np.nan, np.nan
    picks: NDArray[np.int64] = np.random.default_rng(0).integers(0, len(guess), (RESAMPLES, len(guess)))
    found = _ranks(guess[picks], truth[picks])
    low, high = np.quantile(found[np.isfinite(found)], [0.025, 0.975]) if np.isfinite(found).any() else (np.nan, np.nan)
    return float(low), float(high)
