"""Least squares for on/off designs: one Gram matrix, every answer from it.

Techniques are coded −½ (off) and +½ (on), and pairs are products of such columns. Then a main coefficient *is* the
technique's effect averaged over the others being on or off with equal weight (its Shapley value in a second-order
world), and a pair's coefficient *is* what having both adds beyond the sum of the two.

The Gram matrix is gathered in blocks of rows, so that 100,000 runs with a thousand columns take seconds and little
memory; columns that the runs cannot tell apart are found in its null space and refused, not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, optimize, stats

BLOCK = 8192
NULL = 1e-9  # an eigenvalue of the scaled Gram matrix below this is exact aliasing


@dataclass(frozen=True)
class Design:
    """A model matrix: plain columns, then products of pairs of them.

    Attributes:
        columns: (runs, m) float64.
        names: m names.
        pairs: indices of the columns multiplied.
    """

    columns: np.ndarray
    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return self.columns.shape[1] + len(self.pairs)

    def label(self, index: int) -> str:
        """Name of a coefficient; a pair is written ``a × b``."""
        plain = self.columns.shape[1]
        if index < plain:
            return self.names[index]
        a, b = self.pairs[index - plain]
        return f"{self.names[a]} × {self.names[b]}"

    def block(self, start: int) -> np.ndarray:
        """Rows ``start`` to ``start + BLOCK``: (rows, size)."""
        part = self.columns[start : start + BLOCK]
        if not self.pairs:
            return part
        left, right = np.array(self.pairs).T
        return np.hstack([part, part[:, left] * part[:, right]])

    def take(self, kept: list[int]) -> Design:
        """The same plain columns with only these of the pairs."""
        return Design(self.columns, self.names, tuple(self.pairs[k] for k in kept))

    def gram(self, responses: np.ndarray) -> np.ndarray:
        """(size + r, size + r) cross products of the columns and the responses (runs, r).

        Products of pairs of ±½ columns are multiples of 1/16, so that their sums over a block are exact in float32, at twice
        the speed.
        """
        plain, size = self.columns.shape[1], self.size
        total = np.zeros((size + responses.shape[1],) * 2)
        rest = [*range(plain), *range(size, len(total))]
        for start in range(0, len(self.columns), BLOCK):
            rows = np.hstack([self.columns[start : start + BLOCK], responses[start : start + BLOCK]])
            total[np.ix_(rest, rest)] += rows.T @ rows
            if self.pairs:
                products = self.products(start)
                total[plain:size, plain:size] += products.T @ products
                total[np.ix_(rest, range(plain, size))] += rows.T @ products
        total[plain:size, rest] = total[np.ix_(rest, range(plain, size))].T
        return total

    def products(self, start: int) -> np.ndarray:
        """Pair columns of a block of rows, (rows, pairs) float32: exact for techniques coded ±½."""
        part = self.columns[start : start + BLOCK].astype(np.float32)
        left, right = np.array(self.pairs).T
        return part[:, left] * part[:, right]


@dataclass(frozen=True)
class Fit:
    """What least squares found; arrays are over the coefficients of `design`.

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
        means = _group_means(design, y, codes, counts)
        ratio = _reml_ratio(full, means, counts, n)
    gram = _shrink(full, means, counts, ratio) if shared else full
    size = design.size
    inverse, null = pseudo_inverse(gram[:size, :size])
    rank = size - null.shape[1]
    beta = inverse @ gram[:size, size]
    rss = max(float(gram[size, size] - beta @ gram[:size, size]), 0.0)
    df = np.full(size, float(n - rank))
    if shared:
        df = _between_within(design, codes, counts, rank, n)
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


def select_pairs(design: Design, total: np.ndarray, n: int, parents: list[int], alpha: float = 0.05) -> list[int]:
    """Choose the pairs worth a column, forward, under heredity (Hamada and Wu, 1992).

    Pairs are three families, of two active parents, of one, and of none (active: the main effect's p below 0.05 in the
    current model). A pair enters if it has the smallest p-value times the size of its family and that is below ``alpha``,
    so a pair of two nulls must be far more striking than a pair of two known effects.

    Args:
        design: with every pair that may enter.
        total: ``design.gram`` with the response.
        n: runs.
        parents: the plain columns that are techniques.
        alpha: family-wise level.

    Returns:
        indices into ``design.pairs``.
    """
    plain = design.columns.shape[1]
    left, right = np.array(design.pairs).T
    chosen: list[int] = []
    for _ in range(len(design.pairs)):
        inside = [*range(plain), *(plain + k for k in chosen)]
        inverse, null = pseudo_inverse(total[np.ix_(inside, inside)])
        df = n - (len(inside) - null.shape[1])
        if df < max(6, n // 5):
            break
        beta = inverse @ total[inside, -1]
        rss = total[-1, -1] - beta @ total[inside, -1]
        active = np.zeros(plain, bool)
        spread = np.sqrt(np.maximum(np.diag(inverse)[parents] * rss / df, 1e-300))
        active[parents] = 2 * stats.t.sf(np.abs(beta[: len(inside)][parents]) / spread, df) < 0.05
        candidates = np.arange(plain, plain + len(design.pairs))
        cross = total[np.ix_(candidates, inside)]
        room = total[candidates, candidates] - np.einsum("ij,jk,ik->i", cross, inverse, cross, optimize=True)
        pull = total[candidates, -1] - cross @ beta
        open_ = room > 1e-6 * n / 16
        open_[chosen] = False
        gain = np.where(open_, pull**2 / np.where(open_, room, 1.0), 0.0)
        f = gain / np.maximum((rss - gain) / (df - 1), 1e-300)
        family = active[left].astype(int) + active[right]
        sizes = np.bincount(family[open_], minlength=3)
        adjusted = np.where(open_, stats.f.sf(f, 1, df - 1) * sizes[family], np.inf)
        best = int(np.argmin(adjusted))
        if not adjusted[best] < alpha:
            break
        chosen.append(best)
    return chosen


def pair_leak(design: Design, total: np.ndarray, count: int) -> float:
    """How much pairs leak into the main effects of the first ``count`` techniques, relative to independent noise of their size.

    0 in a folded design, about 1 where combinations are random, more where the design entangles them.
    """
    plain = design.columns.shape[1]
    inverse, _ = pseudo_inverse(total[:plain, :plain])
    alias = (inverse @ total[:plain, plain:-1])[1 : count + 1]
    noise = np.diag(inverse)[1 : count + 1] / 16  # a pair's column has variance 1/16 per run
    return float(np.mean((alias**2).mean(axis=1) / np.maximum(noise, 1e-300)))


def pseudo_inverse(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of a Gram matrix and a basis of its null space (size, k), in the units of the columns."""
    scale = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), 1.0))
    scaled = gram / np.outer(scale, scale)
    empty = np.diag(gram) <= 0
    scaled[empty, empty] = 0.0
    try:
        factor = linalg.cho_factor(scaled, lower=True, check_finite=False)
        if np.diag(factor[0]).min() > 1e-3:
            inverse = linalg.cho_solve(factor, np.eye(len(gram)), check_finite=False)
            return inverse / np.outer(scale, scale), np.zeros((len(gram), 0))
    except linalg.LinAlgError:
        pass
    values, vectors = linalg.eigh(scaled, check_finite=False)
    small = values < NULL * max(len(gram), 1)
    kept = vectors[:, ~small]
    inverse = (kept / values[~small]) @ kept.T
    return inverse / np.outer(scale, scale), vectors[:, small]


def _group_means(design: Design, y: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(groups, size + 1) means of the columns and of the response over the runs of each training."""
    sums = np.zeros((len(counts), design.size + 1))
    for start in range(0, len(y), BLOCK):
        rows = np.hstack([design.block(start), y[start : start + BLOCK, None]])
        np.add.at(sums, codes[start : start + BLOCK], rows)
    return sums / counts[:, None]


def _shrink(full: np.ndarray, means: np.ndarray, counts: np.ndarray, ratio: float) -> np.ndarray:
    """Cross products after generalised least squares with a random intercept of variance ``ratio`` times the residual's."""
    weight = counts * counts * ratio / (1 + counts * ratio)
    return full - (means * weight[:, None]).T @ means


def _reml_ratio(full: np.ndarray, means: np.ndarray, counts: np.ndarray, n: int) -> float:
    """Variance between trainings over variance within them, by restricted maximum likelihood."""
    size = len(full) - 1

    def deviance(log_ratio: float) -> float:
        ratio = np.exp(log_ratio)
        gram = _shrink(full, means, counts, ratio)
        inverse, null = pseudo_inverse(gram[:size, :size])
        values = np.linalg.eigvalsh(gram[:size, :size])[null.shape[1] :]
        rank = size - null.shape[1]
        rss = gram[size, size] - gram[:size, size] @ inverse @ gram[:size, size]
        df = max(n - rank, 1)
        return float(
            df * np.log(max(rss, 1e-300) / df) + np.log1p(counts * ratio).sum() + np.log(np.maximum(values, 1e-300)).sum()
        )

    grid = np.linspace(-9.0, 14.0, 24)
    heights = [deviance(v) for v in grid]
    at = int(np.argmin(heights))
    low, high = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
    found = optimize.minimize_scalar(deviance, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return 0.0 if at == 0 else float(np.exp(found.x))


def _between_within(design: Design, codes: np.ndarray, counts: np.ndarray, rank: int, n: int) -> np.ndarray:
    """Degrees of freedom: a column constant within every training is judged between trainings, any other within them."""
    constant = np.ones(design.size, bool)
    first = np.full(len(counts), -1)
    first[codes[::-1]] = np.arange(n)[::-1]
    for start in range(0, n, BLOCK):
        rows = design.block(start)
        origin = first[codes[start : start + BLOCK]]
        plain = design.columns[origin]
        if design.pairs:
            left, right = np.array(design.pairs).T
            plain = np.hstack([plain, plain[:, left] * plain[:, right]])
        constant &= (np.abs(rows - plain) < 1e-12).all(axis=0)
    within = int((~constant).sum())
    between_df, within_df = len(counts) - (rank - within), n - len(counts) - within
    return np.where(constant, float(between_df), float(within_df))
