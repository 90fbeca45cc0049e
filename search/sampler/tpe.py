"""Multivariate TPE over finished trials: densities of the good and of the other trials, and draws from the good ones."""

from __future__ import annotations

import numpy as np

from golflab.search.sampler.encoding import Encoding


class Parzen:
    """A mixture with one component per trial; within a component parameters are independent.

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

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, columns) drawn from the mixture, on the grid."""
        rows = self._rows[rng.integers(len(self._rows), size=count)].copy()
        fresh = self._encoding.draw(count, rng)
        for j in range(self._encoding.columns):
            if self._encoding.ordinal[j]:
                moved = np.clip(rows[:, j] + self._width * rng.standard_normal(count), 0, 1 - 1e-9)
                rows[:, j] = self._encoding.on_grid(j, moved)
            else:
                away = rng.random(count) > self._stay
                rows[away, j] = fresh[away, j]
        return self._encoding.settled(rows)

    def log_density(self, rows: np.ndarray) -> np.ndarray:
        """(m,) up to a constant that is the same for all mixtures of one encoding."""
        total = np.zeros((len(rows), len(self._rows)))
        for j in range(self._encoding.columns):
            ours, theirs = rows[:, j][:, None], self._rows[:, j][None, :]
            if self._encoding.ordinal[j]:
                total -= 0.5 * ((ours - theirs) / self._width) ** 2 + np.log(self._width)
            else:
                size = int(self._encoding.sizes[j])
                other = (1 - self._stay) / size
                total += np.where(ours == theirs, np.log(self._stay + other), np.log(other))
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
