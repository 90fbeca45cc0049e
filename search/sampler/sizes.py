"""What will probably fit: a quick model of the size, for a search among thousands of combinations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from golflab.search.sampler.encoding import Encoding, Params
from golflab.search.sampler.surrogate import Surrogate

SIZE_WEIGHT = 8.0  # how many features the size counts for
SLACK = 0.5  # of the quick model's deviations: what it puts over the limit by so much may still fit
FEWEST = 8  # tried sizes that say how far it deviates near them


@dataclass
class Sizes:
    """What will probably fit, and how large it is.

    Attributes:
        encoding: of the parameters.
        overrun: size over limit of parameters.
        seed: of the design that the model is fitted to.
    """

    encoding: Encoding
    overrun: Callable[[Params], float]
    seed: int
    _design: tuple[np.ndarray, np.ndarray] | None = None  # features, log sizes
    _model: Surrogate | None = None
    _slack: float = 0.0
    _always: bool = False

    def fitting(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows that will probably fit, and their features: the encoding's and, counted several times, the size."""
        features, sizes = self._sizes(rows)
        likely = sizes[:, 0] <= self._slack if sizes.shape[1] else np.ones(len(rows), dtype=bool)
        return rows[likely], np.concatenate([features, SIZE_WEIGHT * sizes], axis=1)[likely]

    def features(self, rows: np.ndarray) -> np.ndarray:
        """What the surrogate sees of rows, whether they fit or not."""
        features, sizes = self._sizes(rows)
        return np.concatenate([features, SIZE_WEIGHT * sizes], axis=1)

    def predicted(self, rows: np.ndarray) -> np.ndarray:
        """(n,) log size over limit, as the quick model has it; -inf where everything fits."""
        sizes = self._sizes(rows)[1]
        return sizes[:, 0] if sizes.shape[1] else np.full(len(rows), -np.inf)

    def know(self, rows: np.ndarray, overruns: Sequence[float]) -> None:
        """Take in what was tried: sizes near it are known much better than over the whole space."""
        self._learn()
        if self._design is None or self._model is None or not len(rows):
            return
        features, sizes = self._design
        near, here = self.encoding.features(rows), _log(overruns)
        known = self._model.log_scales, self._model.relevance
        self._model = Surrogate.given(np.concatenate([features, near]), np.append(sizes, here), *known)
        missed = (np.append(sizes, here) - self._model.left_out())[len(sizes) :]
        self._slack = SLACK * float(np.std(missed)) if len(missed) >= FEWEST else self._slack

    def _sizes(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, p), and log size over limit as the quick model has it: (n, 1), or (n, 0) where everything fits."""
        self._learn()
        features = self.encoding.features(rows)
        return features, features[:, :0] if self._model is None else self._model.means(features)[:, None]

    def _learn(self) -> None:
        """Fit the quick model once, to a fixed random design, so that it is the same after a resume."""
        if self._model is not None or self._always:
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
