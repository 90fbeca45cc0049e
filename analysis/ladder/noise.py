"""The noise of paired differences: every technique's own spread over seeds, drawn towards what is usual on its rung.

A rung is a scale (a number of parameters) and a duration (tokens per parameter). Two or three seeds say little about a spread.
So it is moderated as Smyth (2004, "Linear models and empirical Bayes methods …", section 6) does for microarrays: a technique's
variance has an inverse-gamma prior around its rung's, and all rungs share how tight that prior is.

Techniques that act after training share their training with what they are compared with. Their differences scatter a hundred
times less than those of two trainings, so each kind has a prior of its own: with one prior for both, a real ladder's spread
between seeds looked like anything between 0.0001 and 0.02, and nothing was moderated.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import optimize, special

COLUMNS = ["technique", "scale", "parameters", "tokens_per_parameter", "delta_bpb", "se", "replicates"]
RUNG = ["parameters", "tokens_per_parameter"]
SHARES = "shares_training"  # optional column: whether both sides of a row share their trained weights
SMALLEST = 1e-5  # bits per byte: no difference is believed to be known better than this
PRIOR_DF_AT_MOST = 20.0  # a few dozen techniques cannot show that all are equally noisy; one that is not keeps its own share


def checked(differences: pd.DataFrame) -> pd.DataFrame:
    """The columns of a table of paired differences, sound and in order.

    Args:
        differences: a row per technique and rung: technique; scale (a label); parameters; tokens_per_parameter; delta_bpb (with
            the technique minus without it, mean over seeds); se (of that mean, from the spread over seeds; NaN with one seed);
            replicates (seeds); and, if it is there, shares_training (False by default).

    Raises:
        ValueError: a column is missing, a number is not finite or not positive, or no row says anything about noise.
    """
    missing = [name for name in COLUMNS if name not in differences]
    if missing:
        raise ValueError(f"ladder: the table lacks {', '.join(missing)}. It needs the columns {', '.join(COLUMNS)}.")
    shares = differences[SHARES].astype(bool) if SHARES in differences else False
    table = differences[COLUMNS].assign(**{SHARES: shares}).reset_index(drop=True)
    if table.empty:
        raise ValueError("ladder: the table has no rows. Give a row per technique and rung.")
    for name in ("parameters", "tokens_per_parameter", "replicates"):
        if not (np.isfinite(table[name].to_numpy(float)) & (table[name] > 0)).all():
            raise ValueError(f"ladder: {name} must be above 0 in every row; got {table[name].min()!r}.")
    if not np.isfinite(table["delta_bpb"].to_numpy(float)).all():
        raise ValueError("ladder: delta_bpb is not finite in some row. Leave out runs that did not complete.")
    if (table["se"] < 0).any():
        raise ValueError(f"ladder: se must not be negative; got {table['se'].min()!r}.")
    if not table["se"].notna().any():
        raise ValueError("ladder: no row has a standard error. Run at least one rung with two seeds.")
    return table


def variances(table: pd.DataFrame) -> np.ndarray:
    """(rows,) variance of each row's mean difference, as the model may use it.

    A row with one seed and a standard error is taken at its word. A row with one seed and none gets its rung's usual variance.
    Variances known from few degrees of freedom are widened by ``df/(df − 2)``, the variance of Student's t.
    """
    given = ((table["replicates"] <= 1) & table["se"].notna()).to_numpy()
    known = (table["se"].notna() & (table["replicates"] > 1)).to_numpy()
    n, df = table["replicates"].to_numpy(float), np.where(known, table["replicates"].to_numpy(float) - 1, 0.0)
    own = np.where(known, table["se"].to_numpy(float) ** 2 * n, np.nan)
    own = np.maximum(own, SMALLEST**2)
    if not known.any():  # nothing to pool: what is given serves the rows that have nothing
        middle = float(np.median(table["se"][given] ** 2))
        return np.where(given, np.maximum(table["se"].to_numpy(float) ** 2, SMALLEST**2), middle / n)
    usual, prior_df = np.zeros(len(table)), np.zeros(len(table))
    for kind in (False, True):
        mine = (table[SHARES] == kind).to_numpy()
        from_ = mine if (mine & known).any() else np.ones(len(table), bool)  # no row of this kind is known: those of both serve
        if mine.any():
            chosen = from_ & known
            found, worth = _prior(np.log(own[chosen]), df[chosen], table.loc[from_, RUNG].to_numpy(float), known[from_])
            usual[mine], prior_df[mine] = found[mine[from_]], worth
    total = prior_df + df
    pooled = (prior_df * usual + np.where(known, df * np.nan_to_num(own), 0.0)) / total
    widened = pooled / n * np.where(total > 4, total / np.maximum(total - 2, 1e-9), 2.0)
    return np.where(given, np.maximum(table["se"].to_numpy(float) ** 2, SMALLEST**2), widened)


def _prior(logs: np.ndarray, df: np.ndarray, rungs: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, float]:
    """Usual variance of a run on the rung of every row, and the degrees of freedom that it is worth.

    The log of a sample variance has mean ``log σ² + ψ(df/2) − log(df/2)`` and variance ``ψ'(df/2)``; what varies beyond that
    between techniques of one rung is the prior's. A rung without any repeated run gets the mean of the other rungs.
    """
    centred = logs - special.digamma(df / 2) + np.log(df / 2)
    labels = np.unique(rungs, axis=0, return_inverse=True)[1].ravel()
    counts = np.bincount(labels[known], minlength=labels.max() + 1)
    sums = np.bincount(labels[known], weights=centred, minlength=labels.max() + 1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), centred.mean())
    free = len(logs) - (counts > 0).sum()
    excess = 0.0
    if free > 0:
        excess = float(((centred - means[labels[known]]) ** 2).sum() / free - np.mean(special.polygamma(1, df / 2)))
    prior_df = _inverse_trigamma(excess) * 2 if excess > 0 else PRIOR_DF_AT_MOST
    prior_df = float(np.clip(prior_df, 0.5, PRIOR_DF_AT_MOST))
    return np.exp(means + special.digamma(prior_df / 2) - np.log(prior_df / 2))[labels], prior_df


def _inverse_trigamma(value: float) -> float:
    """x with ψ'(x) = value."""
    gap = lambda log_x: float(special.polygamma(1, np.exp(log_x))) - value
    return float(np.exp(optimize.brentq(gap, np.log(1e-4), np.log(1e6)))) if gap(np.log(1e6)) < 0 else 1e6
