"""Selection of the pairs of techniques that get a coefficient."""

from __future__ import annotations

import numpy as np
from scipy import stats

from golflab.analysis.inference.design_matrix import Design, pseudo_inverse


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


def pair_leak(design: Design, total: np.ndarray, count: int) -> float:
    """Bias of the main effects of the first ``count`` techniques by pairs, relative to independent noise of the same size.

    0 in a folded design, about 1 for random combinations, larger if the design confounds them.
    """
    plain = design.columns.shape[1]
    inverse, _ = pseudo_inverse(total[:plain, :plain])
    alias = (inverse @ total[:plain, plain:-1])[1 : count + 1]
    noise = np.diag(inverse)[1 : count + 1] / 16  # a pair's column has variance 1/16 per run
    return float(np.mean((alias**2).mean(axis=1) / np.maximum(noise, 1e-300)))
