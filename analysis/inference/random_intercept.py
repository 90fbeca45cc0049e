"""Runs that share a training: a random intercept per training, by restricted maximum likelihood (REML)."""

from __future__ import annotations

import numpy as np
from scipy import optimize

from golflab.analysis.inference.design_matrix import BLOCK, Design, pseudo_inverse


def group_means(design: Design, y: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(groups, size + 1) means of the columns and of the response over the runs of each training."""
    sums = np.zeros((len(counts), design.size + 1))
    for start in range(0, len(y), BLOCK):
        rows = np.hstack([design.block(start), y[start : start + BLOCK, None]])
        np.add.at(sums, codes[start : start + BLOCK], rows)
    return sums / counts[:, None]


def shrink(full: np.ndarray, means: np.ndarray, counts: np.ndarray, ratio: float) -> np.ndarray:
    """Cross products after generalised least squares with a random intercept of variance ``ratio`` times the residual's."""
    weight = counts * counts * ratio / (1 + counts * ratio)
    return full - (means * weight[:, None]).T @ means


def reml_ratio(full: np.ndarray, means: np.ndarray, counts: np.ndarray, n: int) -> float:
    """Variance between trainings over variance within them, by restricted maximum likelihood."""
    size = len(full) - 1

    def deviance(log_ratio: float) -> float:
        ratio = np.exp(log_ratio)
        gram = shrink(full, means, counts, ratio)
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


def between_within(design: Design, codes: np.ndarray, counts: np.ndarray, rank: int, n: int) -> np.ndarray:
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
