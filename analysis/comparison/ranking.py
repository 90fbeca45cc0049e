"""Ranking of recipes with errors. Runs of one recipe with several seeds are one row."""

from __future__ import annotations

import numpy as np
import pandas as pd

from golflab.analysis.effects.model import Model, fit_model, usable
from golflab.analysis.inference.intervals import half_width
from golflab.analysis.inference.regression import fitted
from golflab.analysis.table import knobs, shapes, techniques


def ranking(table: pd.DataFrame, *, level: float = 0.95, model: Model | None = None) -> pd.DataFrame:
    """Rank recipes by their mean score over seeds; those over their byte limit come after all that fit.

    The best of many noisy scores is partly luck. ``expected`` shrinks each mean toward the prediction of the contribution
    model, by the ratio of the noise to the total spread around that prediction.

    Args:
        table: runs.
        level: of the intervals.
        model: the fitted contribution model, if it is at hand.

    Returns:
        best first: recipe (hash of the first seed's), preset, techniques (those that vary), bpb, se, low, high (the error
        pooled over recipes where one has a single run), expected (NaN where no error is known), p_best (chance of being the
        best that fits), runs, bytes, bytes_sd, seconds, fits, doubt. ``attrs["sigma"]`` is the spread between runs of one
        recipe that was used, ``attrs["df"]`` its degrees of freedom.
    """
    rows = usable(table)
    if rows.empty:
        return pd.DataFrame(columns=_COLUMNS)
    model = fit_model(table) if model is None else model
    _, first, group, counts = np.unique(arms(rows), return_index=True, return_inverse=True, return_counts=True)
    frame = rows.iloc[first][["recipe", "preset"]].reset_index(drop=True)
    frame["runs"], frame["first"] = counts, first
    for name in ("bpb", "bytes", "seconds"):
        frame[name] = np.bincount(group, rows[name].to_numpy(float)) / counts
    frame["bytes_sd"] = _sd_within(rows["bytes"].to_numpy(float), group, counts)
    over = rows["bytes"].to_numpy(float) > rows["limit"].to_numpy(float)
    frame["fits"] = np.bincount(group, over) == 0
    sigma, df = _spread(rows["bpb"].to_numpy(float), group, counts, model)
    frame["se"] = sigma / np.sqrt(frame["runs"])
    half = half_width(frame["se"], df, level)
    frame["low"], frame["high"] = frame["bpb"] - half, frame["bpb"] + half
    frame["techniques"] = _names(rows.iloc[first])
    frame["expected"], spread = _shrunk(frame, rows, model, sigma)
    frame["p_best"] = _p_best(frame["expected"].to_numpy(), spread, frame["fits"].to_numpy())
    frame["doubt"] = np.where(~frame["fits"], "over its byte limit", np.where(frame["runs"] < 2, "one seed only", ""))
    out = frame.sort_values(["fits", "bpb"], ascending=[False, True])[_COLUMNS].reset_index(drop=True)
    out.attrs.update(sigma=sigma, df=df)
    return out


_COLUMNS = [
    "recipe",
    "preset",
    "techniques",
    "bpb",
    "se",
    "low",
    "high",
    "expected",
    "p_best",
    "runs",
    "bytes",
    "bytes_sd",
    "seconds",
    "fits",
    "doubt",
]


def arms(rows: pd.DataFrame) -> np.ndarray:
    """(runs,) a number that is equal for two runs that differ only in their seed."""
    varying = [
        *techniques(rows),
        *knobs(rows),
        *shapes(rows),
        *(c for c in rows if str(c).startswith("schedule.")),
        *(["limit"] if "limit" in rows else []),
    ]
    return pd.util.hash_pandas_object(rows[varying], index=False).to_numpy() if varying else np.zeros(len(rows), np.uint64)


def _names(rows: pd.DataFrame) -> list[str]:
    """The varying techniques each row has on, as text."""
    names = np.array(techniques(rows), dtype=object)
    flags = rows[list(names)].to_numpy(bool)
    return [", ".join(names[on]) for on in flags]


def _sd_within(values: np.ndarray, group: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(groups,) standard deviation within each group, NaN for a single run."""
    gaps = values - (np.bincount(group, values) / counts)[group]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts > 1, np.sqrt(np.bincount(group, gaps**2) / (counts - 1)), np.nan)


def _spread(bpb: np.ndarray, group: np.ndarray, counts: np.ndarray, model: Model | None) -> tuple[float, float]:
    """Spread between seeds of one recipe and its degrees of freedom: from repeats, else from the model's residual."""
    df = len(bpb) - len(counts)
    if df >= 5:
        gaps = bpb - (np.bincount(group, bpb) / counts)[group]
        return float(np.sqrt((gaps**2).sum() / df)), float(df)
    return (
        (float(np.hypot(model.fit.sigma, model.fit.sigma_training)), float(model.fit.df.max()))
        if model is not None
        else (np.nan, 0.0)
    )


def _shrunk(frame: pd.DataFrame, rows: pd.DataFrame, model: Model | None, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Empirical Bayes: means pulled toward the model's prediction, and the standard deviation left."""
    mean, noise = frame["bpb"].to_numpy(), sigma**2 / frame["runs"].to_numpy()
    center = np.full(len(frame), mean.mean())
    if model is not None and len(model.rows) == len(rows):
        center = fitted(model.fit)[frame["first"].to_numpy(int)]
    if not np.isfinite(sigma):  # without an error, the share of luck is unknown
        return np.full(len(mean), np.nan), np.full(len(mean), np.nan)
    left = max(float(np.mean((mean - center) ** 2 - noise)), 0.0)
    weight = left / (left + noise) if left > 0 else np.zeros(len(mean))
    floor = noise * max(model.fit.design.size, 1) / max(len(rows), 1) if model is not None else noise / len(mean)
    return center + weight * (mean - center), np.sqrt(weight * noise + (1 - weight) * floor)


def _p_best(mean: np.ndarray, spread: np.ndarray, fits: np.ndarray, draws: int = 2000) -> np.ndarray:
    """Share of draws from the posterior in which each recipe is the best of those that fit (the 200 most promising compete)."""
    out = np.zeros(len(mean))
    if not np.isfinite(spread).all() or not fits.any():
        return np.full(len(mean), np.nan)
    rivals = np.flatnonzero(fits)
    rivals = rivals[np.argsort((mean - 2 * spread)[rivals])[:200]]
    generator = np.random.default_rng(0)
    drawn = generator.normal(mean[rivals], spread[rivals], (draws, len(rivals)))
    np.add.at(out, rivals[drawn.argmin(axis=1)], 1 / draws)
    return out
