"""Least squares for on/off designs, from one Gram matrix.

Techniques are coded −½ (off) and +½ (on), and pairs are products of such columns. Then a main coefficient *is* the
technique's effect averaged over the others being on or off with equal weight (its Shapley value in a second-order
world), and a pair's coefficient *is* what having both adds beyond the sum of the two.

The Gram matrix is gathered in blocks of rows, so that 100,000 runs with a thousand columns take seconds and little
memory; columns that the runs cannot tell apart are found in its null space and refused, not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from golflab.analysis.inference.design_matrix import BLOCK, Design, pseudo_inverse
from golflab.analysis.inference.random_intercept import between_within, group_means, reml_ratio, shrink


@dataclass(frozen=True)
class Fit:
    """The result of least squares; arrays are over the coefficients of `design`.

    Attributes:
        beta: estimates, NaN where not identifiable.
        covariance: (size, size) of the estimates, zero in the rows of what is not identifiable.
        df: residual degrees of freedom for each coefficient.
        sigma: residual standard deviation of one run (within one training, if trainings are shared).
        sigma_training: standard deviation between trainings, 0 where none is shared.
        aliases: coefficient -> the others it cannot be told apart from.
        vif: variance inflation by correlation with the other columns.
        errors: ``pooled``, ``HC3`` or ``random intercept per training``.
    """

    design: Design
    beta: np.ndarray
    covariance: np.ndarray
    df: np.ndarray
    sigma: float
    sigma_training: float
    aliases: dict[int, list[int]]
    vif: np.ndarray
    errors: str

    @property
    def se(self) -> np.ndarray:
        """Standard errors, NaN where not identifiable or without a degree of freedom left."""
        variance = np.where(np.isfinite(self.beta) & (self.df > 0), np.diag(self.covariance), np.nan)
        return np.sqrt(variance)

    @property
    def p(self) -> np.ndarray:
        """Two-sided p-values."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return 2 * stats.t.sf(np.abs(self.beta / self.se), np.where(self.df > 0, self.df, np.nan))

    def half_width(self, level: float = 0.95) -> np.ndarray:
        """Half the width of the confidence intervals."""
        return self.se * stats.t.ppf(0.5 + level / 2, np.where(self.df > 0, self.df, np.nan))

    def contrast(self, weights: np.ndarray) -> tuple[float, float]:
        """Estimate and standard error of ``weights @ beta`` (NaN if it needs what is not identifiable)."""
        used = weights != 0
        value = float(weights[used] @ self.beta[used])
        variance = float(weights @ self.covariance @ weights)
        return value, float(np.sqrt(max(variance, 0.0))) if np.isfinite(value) else np.nan


def least_squares(design: Design, y: np.ndarray, groups: np.ndarray | None = None, gram: np.ndarray | None = None) -> Fit:
    """Fit one response.

    Args:
        design: the model matrix; its first column should be the intercept.
        y: (runs,) responses, finite.
        groups: (runs,) key of the training a run came from. Runs that share one are not independent: their training
            error is the same. A random intercept per training (REML) weighs comparisons within and between trainings
            by what they are worth; degrees of freedom follow the between-within rule.
        gram: ``design.gram(y)`` if it is at hand.

    Returns:
        the fit, with pooled residual variance.
    """
    n = len(y)
    full = design.gram(y[:, None]) if gram is None else gram
    shared = False if groups is None else len(np.unique(groups)) < n
    ratio, means, counts = 0.0, np.zeros((0, 0)), np.zeros(0)
    codes = np.arange(n)
    if shared:
        codes = np.unique(np.asarray(groups), return_inverse=True)[1]
        counts = np.bincount(codes).astype(float)
        means = group_means(design, y, codes, counts)
        ratio = reml_ratio(full, means, counts, n)
    gram = shrink(full, means, counts, ratio) if shared else full
    size = design.size
    inverse, null = pseudo_inverse(gram[:size, :size])
    rank = size - null.shape[1]
    beta = inverse @ gram[:size, size]
    rss = max(float(gram[size, size] - beta @ gram[:size, size]), 0.0)
    df = np.full(size, float(n - rank))
    if shared:
        df = between_within(design, codes, counts, rank, n)
    sigma2 = rss / (n - rank) if n > rank else np.nan
    leak = (null**2).sum(axis=1) if null.size else np.zeros(size)
    alias = {
        int(i): [int(k) for k in np.flatnonzero(np.abs(null @ null[i]) > 1e-6) if k != i] for i in np.flatnonzero(leak > 1e-8)
    }
    fine = leak <= 1e-8
    covariance = np.where(np.outer(fine, fine), inverse * sigma2, 0.0)
    centred = np.diag(full)[:size] - full[:size, 0] ** 2 / full[0, 0] if full[0, 0] > 0 else np.diag(full)[:size]
    vif = np.where(fine, np.diag(inverse) * centred, np.inf)
    errors = "random intercept per training" if shared else "pooled"
    return Fit(
        design,
        np.where(fine, beta, np.nan),
        covariance,
        df,
        float(np.sqrt(sigma2)),
        float(np.sqrt(sigma2 * ratio)),
        alias,
        vif,
        errors,
    )


def residuals(fit: Fit, y: np.ndarray) -> np.ndarray:
    """(runs,) what the fit leaves unexplained."""
    return y - fitted(fit)


def fitted(fit: Fit) -> np.ndarray:
    """(runs,) what the fit predicts for its own runs."""
    beta, design = np.nan_to_num(fit.beta), fit.design
    plain = design.columns.shape[1]
    out = design.columns @ beta[:plain]
    if design.pairs:
        weights = np.zeros((plain, plain))
        left, right = np.array(design.pairs).T
        weights[left, right] = beta[plain:]
        out += np.einsum("ij,ij->i", design.columns @ weights, design.columns)
    return out


def hc3(fit: Fit, rest: np.ndarray) -> Fit:
    """The same estimates with errors that hold under unequal variances (MacKinnon and White, 1985).

    Where runs are twenty times the coefficients leverage is left out (HC0 with n − p). Where a run alone determines a
    coefficient, its residual says nothing and ``fit`` itself is returned.

    Args:
        fit: of ordinary least squares.
        rest: (runs,) its residuals.
    """
    many = len(rest) >= 20 * fit.design.size
    inverse, _ = pseudo_inverse(fit.design.gram(rest[:, None])[:-1, :-1])
    meat = np.zeros_like(inverse)
    for start in range(0, len(rest), BLOCK):
        rows = fit.design.block(start)
        weight = rest[start : start + BLOCK] ** 2
        if not many:
            leverage = np.einsum("ij,jk,ik->i", rows, inverse, rows, optimize=True)
            if leverage.max() > 0.95:
                return fit
            weight = weight / (1 - leverage) ** 2
        rows = rows.astype(np.float32) if many else rows
        meat += (rows * weight[:, None].astype(rows.dtype)).T @ rows
    meat *= len(rest) / (len(rest) - fit.design.size) if many else 1.0
    covariance = np.where(fit.covariance != 0, inverse @ meat @ inverse, 0.0)
    return replace(fit, covariance=covariance, errors="HC3")


def hc2(fit: Fit, rest: np.ndarray) -> Fit:
    """The same estimates; an effect whose own runs scatter more than all runs do gets an error from its own runs.

    For designs in which every arm is repeated. HC2 errors (MacKinnon and White, 1985) come with the degrees of freedom of Bell
    and McCaffrey (2002; Imbens and Kolesár, 2016): the difference of two arms of three runs has 4. They are used where they
    give a wider interval than the pooled error. So whoever looks at the spread first, and then chooses, does not claim too
    much. Takes memory for (runs, runs).

    Args:
        fit: of ordinary least squares.
        rest: (runs,) its residuals.
    """
    rows = np.vstack([fit.design.block(start) for start in range(0, len(rest), BLOCK)])
    inverse, _ = pseudo_inverse(rows.T @ rows)
    weights = rows @ inverse  # (runs, size): each estimate is such a sum over the runs
    hat = weights @ rows.T
    free = 1 - np.diag(hat)
    if free.min() < 0.05:
        return fit
    scaled, left = weights / np.sqrt(free)[:, None], np.eye(len(rest)) - hat
    se, df, larger = fit.se, fit.df.copy(), np.ones(len(fit.beta))
    for k in np.flatnonzero(np.isfinite(se)):
        spread = (left * scaled[:, k]) @ (left * scaled[:, k]).T
        own_df = float(np.trace(spread) ** 2 / np.sum(spread**2))
        own = float(np.linalg.norm(scaled[:, k] * rest))
        if own * stats.t.ppf(0.975, own_df) > se[k] * stats.t.ppf(0.975, df[k]):
            larger[k], df[k] = own / se[k], own_df
    return replace(fit, covariance=fit.covariance * np.outer(larger, larger), df=df, errors="HC2")
