"""Multivariate TPE over finished trials: densities of the good and of the other trials, and draws from the good ones."""

from __future__ import annotations

import numpy as np

from golflab.search.sampler.encoding import Encoding


class Parzen:
    """A mixture with one component per trial; within a component parameters are independent.

    A knob is part of a component only if its technique is on there. Where the technique is off, the trial says nothing about
    the knob: its density is uniform, and a draw that switches the technique on takes the knob from a trial that had it on.

    Args:
        encoding: what the columns mean.
        rows: (n, columns) encoded trials.
    """

    def __init__(self, encoding: Encoding, rows: np.ndarray) -> None:
        self._encoding, self._rows = encoding, rows
        n = max(1, len(rows))
        # Components become narrower with more trials. With one trial, a switch is kept in two draws out of three.
        self._stay = 1.0 - 1.0 / (2.0 + np.sqrt(n))
        self._width = max(0.08, 0.5 * n ** (-1.0 / (4.0 + encoding.columns / 8)))
        self._used = encoding.counts(rows)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, columns) drawn from the mixture, on the grid."""
        chosen = rng.integers(len(self._rows), size=count)
        rows, fresh = self._rows[chosen].copy(), self._encoding.draw(count, rng)
        for j in map(int, np.flatnonzero(self._used.any(axis=0) & ~self._used.all(axis=0))):
            lacking = ~self._used[chosen, j]
            rows[lacking, j] = rng.choice(self._rows[self._used[:, j], j], size=lacking.sum())
        for j in range(self._encoding.columns):
            if self._encoding.ordinal[j]:
                moved = np.clip(rows[:, j] + self._width * rng.standard_normal(count), 0, 1 - 1e-9)
                rows[:, j] = self._encoding.on_grid(j, moved)
            else:
                away = rng.random(count) > self._stay
                rows[away, j] = fresh[away, j]
        return self._encoding.settled(rows)

    def log_density(self, rows: np.ndarray) -> np.ndarray:
        """(m,) logarithm of the density, relative to the uniform one."""
        total, used = np.zeros((len(rows), len(self._rows))), self._encoding.counts(rows)
        for j in range(self._encoding.columns):
            ours, theirs = rows[:, j][:, None], self._rows[:, j][None, :]
            if self._encoding.ordinal[j]:
                here = -0.5 * ((ours - theirs) / self._width) ** 2 - np.log(self._width * np.sqrt(2 * np.pi))
            else:
                size = int(self._encoding.sizes[j])
                here = np.log(np.where(ours == theirs, self._stay * size + 1 - self._stay, 1 - self._stay))
            total += np.where(used[:, j][:, None] & self._used[:, j][None, :], here, 0.0)
        top = total.max(axis=1)
        return top + np.log(np.exp(total - top[:, None]).mean(axis=1))


def expected_improvement(
    encoding: Encoding, rows: np.ndarray, values: np.ndarray, candidates: np.ndarray, pending: np.ndarray
) -> np.ndarray:
    """(m,) expected improvement up to a factor, by the ratio of good to other density (Bergstra et al., 2011, eq. 3).

    Pending trials (k, columns) count as bad ones ("constant liar"), so that many workers do not try the same combination.
    """
    good, other = split(values)
    rest = Parzen(encoding, np.concatenate([rows[other], pending]))
    ratio = rest.log_density(candidates) - Parzen(encoding, rows[good]).log_density(candidates)
    share = len(good) / len(values)
    return 1.0 / (share + (1 - share) * np.exp(np.minimum(ratio, 700.0)))


def split(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the good trials (a tenth, at most 25) and of the others."""
    order = np.argsort(values, kind="stable")
    count = min(25, max(1, int(np.ceil(0.1 * len(values)))))
    return order[:count], order[count:] if len(values) > count else order
