"""Selection of the pairs of techniques that get a coefficient."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import optimize, stats

from golflab.analysis.inference.design_matrix import Design, pseudo_inverse

WORLDS = 400  # of pure noise, from which the price of a selection is learnt
TAILS = (0.05, 0.01)  # two-sided p-values that are exact then


def select_pairs(design: Design, total: np.ndarray, n: int, parents: list[int], alpha: float = 0.05) -> list[int]:
    """Choose the pairs worth a column, forward, under heredity (Hamada and Wu, 1992).

    Pairs are three families, of two active parents, of one, and of none (active: the main effect's p below 0.05 in the
    current model). A pair enters if it has the smallest p-value times the size of its family and that is below ``alpha``,
    so a pair of two inactive techniques needs a much smaller p-value than a pair of two active ones.

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


def price_of_selection(design: Design, n: int, parents: list[int], alpha: float = 0.05) -> tuple[float, float]:
    """How to read the residual variance that `select_pairs` leaves, so that tests of main effects keep their level.

    A pair that is chosen because it looks large takes more from the residual than one that was fixed beforehand. The variance
    that is left is too small, and known less well than its degrees of freedom say. By how much depends on the design alone. So
    it is measured: pairs are selected in `WORLDS` worlds of pure noise, always the same ones. Main effects must be clear of
    pairs (see `pair_leak`): then an estimate does not depend on the variance, and over these worlds it is a mixture of normal
    distributions.

    Args:
        design: with every pair that may enter.
        n: runs.
        parents: the plain columns that are techniques.
        alpha: as for `select_pairs`.

    Returns:
        the factor by which the variance must be multiplied, and degrees of freedom, with which Student's t has the right tails
        at the two p-values of `TAILS`.
    """
    left, right = np.array(design.pairs).T
    return _price(design.columns.tobytes(), design.columns.shape, tuple(left), tuple(right), n, tuple(parents), alpha)


@lru_cache(maxsize=64)
def _price(
    columns: bytes,
    shape: tuple[int, int],
    left: tuple[int, ...],
    right: tuple[int, ...],
    n: int,
    parents: tuple[int, ...],
    alpha: float,
) -> tuple[float, float]:
    names = ("",) * shape[1]
    design = Design(np.frombuffer(columns).reshape(shape), names, tuple(zip(left, right, strict=True)))
    size, plain = design.size, shape[1]
    total = design.gram(np.random.default_rng(0).standard_normal((n, WORLDS)))
    one = np.empty((size + 1, size + 1))
    one[:size, :size] = total[:size, :size]
    estimates = np.empty(WORLDS)
    for world in range(WORLDS):
        one[:size, -1] = one[-1, :size] = total[:size, size + world]
        one[-1, -1] = total[size + world, size + world]
        inside = [*range(plain), *(plain + k for k in select_pairs(design, one, n, list(parents), alpha))]
        inverse, null = pseudo_inverse(one[np.ix_(inside, inside)])
        rss = one[-1, -1] - one[inside, -1] @ inverse @ one[inside, -1]
        estimates[world] = rss / (n - len(inside) + null.shape[1])
    roots = np.sqrt(estimates)
    first, second = (optimize.brentq(lambda t, p=p: 2 * stats.norm.sf(t * roots).mean() - p, 0.1, 1e4) for p in TAILS)

    def ratio(log_df: float) -> float:
        few, many = stats.t.isf(np.array(TAILS) / 2, np.exp(log_df))
        return float(many / few - second / first)

    df = float(np.exp(optimize.brentq(ratio, 0.0, 12.0))) if ratio(12.0) < 0 < ratio(0.0) else float(n - plain)
    return float((first / stats.t.isf(TAILS[0] / 2, df)) ** 2), df


def pair_leak(design: Design, total: np.ndarray, count: int) -> float:
    """Bias of the main effects of the first ``count`` techniques by pairs, relative to independent noise of the same size.

    0 in a folded design, about 1 for random combinations, larger if the design confounds them.
    """
    plain = design.columns.shape[1]
    inverse, _ = pseudo_inverse(total[:plain, :plain])
    alias = (inverse @ total[:plain, plain:-1])[1 : count + 1]
    noise = np.diag(inverse)[1 : count + 1] / 16  # a pair's column has variance 1/16 per run
    return float(np.mean((alias**2).mean(axis=1) / np.maximum(noise, 1e-300)))
