"""A quick model of the size, for a local search among thousands of combinations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from golflab.search.sampler.encoding import Encoding, Params
from golflab.search.sampler.surrogate import Surrogate

SIZE_WEIGHT = 8.0  # the size counts as much as so many features
MOST_FINE = 24  # numbers that hat functions describe, at most: the time of a proposal grows with the square of the features
SLACK = 0.5  # standard deviations of the quick model by which its prediction may exceed the limit
FEWEST = 8  # trials from which that standard deviation is estimated


@dataclass
class Sizes:
    """Predicts sizes, and which combinations probably fit.

    Attributes:
        encoding: of the parameters.
        overrun: size of a combination divided by the limit; None: everything fits.
        seed: of the random combinations that the model is fitted to.
    """

    encoding: Encoding
    overrun: Callable[[Params], float] | None
    seed: int
    _design: tuple[np.ndarray, np.ndarray] | None = None  # features, log sizes
    _model: Surrogate | None = None
    _slack: float = 0.0
    _always: bool = False  # even the largest combination fits
    _fine: np.ndarray | None = None  # columns of the numbers that hat functions describe

    def fitting(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows that probably fit, and their features: the encoding's, hat functions and, with a larger weight, the size."""
        features, sizes = self._sizes(rows)
        likely = sizes[:, 0] <= self._slack if sizes.shape[1] else np.ones(len(rows), dtype=bool)
        return rows[likely], self._all(rows[likely], features[likely], sizes[likely])

    def features(self, rows: np.ndarray) -> np.ndarray:
        """The features of rows, whether they fit or not."""
        return self._all(rows, *self._sizes(rows))

    def predicted(self, rows: np.ndarray) -> np.ndarray:
        """(n,) predicted log of size divided by limit; -inf where everything fits."""
        sizes = self._sizes(rows)[1]
        return sizes[:, 0] if sizes.shape[1] else np.full(len(rows), -np.inf)

    def know(self, rows: np.ndarray, overruns: Sequence[float]) -> None:
        """Correct the model by the sizes of trials: near them it becomes much more precise.

        The trials also decide which numbers hat functions describe: those that most of the trials use.
        """
        often, fine = self.encoding.counts(rows).sum(axis=0), self.encoding.fine
        self._fine = np.sort(fine[np.argsort(-often[fine], kind="stable")[:MOST_FINE]])
        self._learn()
        if self._design is None or self._model is None or not len(rows):
            return
        features, sizes = self._design
        near, here = self.encoding.features(rows), _log(overruns)
        known = self._model.log_scales, self._model.relevance
        self._model = Surrogate.given(np.concatenate([features, near]), np.append(sizes, here), *known)
        missed = (np.append(sizes, here) - self._model.left_out())[len(sizes) :]
        self._slack = SLACK * float(np.std(missed)) if len(missed) >= FEWEST else self._slack

    def _all(self, rows: np.ndarray, features: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        hats = self.encoding.hats(rows, self.encoding.fine[:MOST_FINE] if self._fine is None else self._fine)
        return np.concatenate([features, hats, SIZE_WEIGHT * sizes], axis=1)

    def _sizes(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, p), and the predicted log of size divided by limit: (n, 1), or (n, 0) where everything fits."""
        self._learn()
        features = self.encoding.features(rows)
        return features, features[:, :0] if self._model is None else self._model.means(features)[:, None]

    def _learn(self) -> None:
        """Fit the model once, to random combinations that depend on the seed alone, so that it is the same after a resume."""
        if self._model is not None or self._always or self.overrun is None:
            return
        rng = np.random.default_rng([self.seed, 0])
        rows = self.encoding.draw(min(160, 48 + 2 * self.encoding.columns), rng)
        sizes = _log([self.overrun(self.encoding.params(row)) for row in rows])
        if sizes.max() <= np.log(0.5) or np.ptp(sizes) < 1e-9:
            self._always = bool(sizes.max() <= 0)
            if self._always:
                return
        self._design = self.encoding.features(rows), sizes
        self._model = Surrogate.fit(*self._design)
        self._slack = SLACK * float(np.std(sizes - self._model.left_out()))


def _log(overruns: Sequence[float]) -> np.ndarray:
    return np.log(np.maximum(overruns, 1e-12))
