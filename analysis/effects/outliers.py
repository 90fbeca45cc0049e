"""Runs that lie far from what all other runs say, and what the effects are without them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from golflab.analysis.effects.model import Model
from golflab.analysis.inference.design_matrix import pseudo_inverse

LEVEL = 0.01  # family-wise: in so many experiments without any outlying run, one is named
SHARE = 0.1  # of the runs that may be called outlying; with more the model is wrong, not the runs
MOST_RUNS = 5_000  # in which they are looked for: among more, one run changes no effect
LEAST_DF = 5  # that a fit needs before one of its runs may be called outlying
MOST_PAIRED = 500  # runs among which two that hide each other are looked for
COLUMNS = ["recipe", "seed", "value", "expected", "distance"]


def outlying_runs(model: Model, metric: str = "bpb") -> pd.DataFrame:
    """Find runs that the main effects of the other runs cannot explain.

    The run that lies farthest out is judged by its externally studentised residual (its distance from what a fit without it
    expects, over the error of that distance), with Bonferroni's correction for the number of runs. If it passes, the two runs
    that explain most together are judged, because two can hide each other. What is found is set aside, and the rest is judged
    again. Pairs of techniques that the data selected are left out of the fit: they can imitate an outlying run.

    Args:
        model: of `fit_model`.
        metric: the response that was fitted.

    Returns:
        a row a run, as they were found: recipe, seed, value, expected (by the other runs), distance (in standard deviations of
        one run, as the other runs have it). Its index is that of ``model.rows``.
    """
    if len(model.rows) > MOST_RUNS:
        return pd.DataFrame(columns=COLUMNS)
    selected = len(model.rows) < 3 * model.full.size
    columns = model.full.columns if selected else model.fit.design.block(0)
    y, kept, found = model.rows[metric].to_numpy(float), np.arange(len(model.rows)), list[int]()
    while len(found) < int(SHARE * len(y)) and (far := _farthest(columns[kept], y[kept], int(SHARE * len(y)) - len(found))):
        found += [int(kept[k]) for k in far]
        kept = np.delete(kept, far)
    beta = np.linalg.lstsq(columns[kept], y[kept], rcond=None)[0]
    rest = y - columns @ beta
    sigma = np.sqrt(rest[kept] @ rest[kept] / max(len(kept) - np.linalg.matrix_rank(columns[kept]), 1))
    rows = [model.rows.iloc[k] for k in found]
    outlying = [
        (row.get("recipe", ""), row.get("seed"), y[k], y[k] - rest[k], rest[k] / max(sigma, 1e-300))
        for k, row in zip(found, rows, strict=True)
    ]
    return pd.DataFrame(outlying, index=model.rows.index[found], columns=COLUMNS)


def _farthest(columns: np.ndarray, y: np.ndarray, most: int) -> list[int]:
    """The run, or the two runs, that no other run explains; empty if there is none."""
    inverse, null = pseudo_inverse(columns.T @ columns)
    df = len(y) - (columns.shape[1] - null.shape[1])
    if df < LEAST_DF:
        return []
    left = np.eye(len(y)) - columns @ inverse @ columns.T
    rest, free = left @ y, np.diag(left)
    squares = float(rest @ rest)
    gain = np.where(free > 0.01, rest**2 / np.maximum(free, 0.01), 0.0)  # what setting a run aside takes from the squares
    one = int(np.argmax(gain))
    if _chance(gain[one], squares, 1, df) * len(y) < LEVEL:
        return [one]
    if most < 2 or df < LEAST_DF + 1 or len(y) > MOST_PAIRED:
        return []
    room = np.outer(free, free) - left**2
    both = (rest**2)[:, None] * free[None, :] + (rest**2)[None, :] * free[:, None] - 2 * left * np.outer(rest, rest)
    gain = np.triu(np.where(room > 1e-4, both / np.maximum(room, 1e-4), 0.0), 1)
    i, j = np.unravel_index(int(np.argmax(gain)), gain.shape)
    chance = _chance(gain[i, j], squares, 2, df) * len(y) * (len(y) - 1) / 2
    return [int(i), int(j)] if chance < LEVEL else []


def _chance(gain: float, squares: float, count: int, df: int) -> float:
    """Of so large a gain from setting given runs aside, where errors are normal."""
    return float(stats.f.sf(gain / count / max((squares - gain) / (df - count), 1e-300), count, df - count))


def outliers_in_words(found: pd.DataFrame, sigma: float, without: float, counted: bool) -> str:
    """The note: which runs, and what they do to the error of everything else.

    Args:
        found: of `outlying_runs`, with one row at least.
        sigma: standard deviation of one run with them.
        without: the same without them.
        counted: whether the table counts them.
    """
    runs = ", ".join(f"{r.recipe or 'one'} ({r.value:.4f} where {r.expected:.4f} is expected)" for r in found.itertuples())
    change = f"Without them the standard deviation of one run is {without:.2g} instead of {sigma:.2g}."
    used = (
        "They count here; `contribution(table, outliers=False)` leaves them out."
        if counted
        else "They are left out here; `contribution(table)` counts them."
    )
    return (
        f"Outliers, far from what all other runs say: {runs}. {change} {used} Find out what happened in them first: if a "
        "technique makes runs diverge, leaving them out hides it."
    )
