"""What is expected before any trial: a mean of the linear model of scores, and the first proposals.

The prior mean is linear in the choices: every `Expected` effect counts where its parameter has its value. All are multiplied by
one factor, which is estimated from the trials with a prior of its own; it may shrink to zero or become negative. The surrogate
models what is left. So the trials correct a wrong prior in two ways: as a whole by the factor, and effect by effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from golflab.search.sampler.encoding import Encoding
from golflab.search.sampler.surrogate import Surrogate

FACTOR, FACTOR_SD = 0.5, 0.5  # of the factor's prior: under 1, because what helped is published more often than what did not

Row = tuple[str, float, float]  # technique, mean and standard deviation of its effect, as options keep them
ALLOWED = (
    "must be technique -> (mean, standard deviation) in bits per byte. golflab.search(prior='published') and "
    "`golflab search --prior published` take them from what was published."
)

Function = Callable[[np.ndarray], np.ndarray]  # features (m, p) -> values (m,)


@dataclass(frozen=True)
class Expected:
    """The expected effect of a parameter's value: its mean and standard deviation, in units of what is minimised."""

    parameter: str
    value: Any
    mean: float
    sd: float


class Prior:
    """Expected effects as slopes over the features of an encoding.

    Args:
        encoding: of the parameters.
        effects: expected; the encoding must have their parameters.
    """

    def __init__(self, encoding: Encoding, effects: Sequence[Expected]) -> None:
        self._indicators = np.array([encoding.indicator(e.parameter, e.value) for e in effects])
        self._means, self._sds = np.array([e.mean for e in effects]), np.array([e.sd for e in effects])

    def draw(self, rng: np.random.Generator) -> Function:
        """Draw effects from the prior; return the function of features that is their sum."""
        effects = FACTOR * self._means + self._sds * rng.standard_normal(len(self._means))
        return _linear(effects @ self._indicators)

    def fit(self, x: np.ndarray, y: np.ndarray, fit: Callable[[np.ndarray], Surrogate]) -> Informed:
        """Fit a surrogate to what the prior mean leaves of the values.

        The factor's prior is N(`FACTOR`, `FACTOR_SD`²). Its posterior mean is that of generalised least squares (Rasmussen and
        Williams, 2006, section 2.7). The covariance is that of a surrogate which is fitted with the factor at `FACTOR`.

        Args:
            x: (n, p) features; those of the encoding come first.
            y: (n,) values, smaller is better.
            fit: fits a surrogate to (n,) values at ``x``.
        """
        slopes = self._means @ self._indicators
        mean = _linear(slopes)(x.astype(np.float64))
        usual = fit(y - FACTOR * mean)
        shape = Surrogate.given(x, mean, usual.log_scales, usual.relevance)  # its weights: inverse covariance times the mean
        ratio = shape.spread / usual.spread
        known = ratio**2 * float(shape.weights @ shape.y) + FACTOR_SD**-2
        factor = FACTOR + ratio * float(shape.weights @ usual.y) / known
        rest = Surrogate.given(x, y - factor * mean, usual.log_scales, usual.relevance)
        return Informed(rest, factor, slopes, float(np.std(y)) or 1.0)


@dataclass(frozen=True)
class Informed:
    """A prior mean plus a surrogate of the rest; it answers what the sampler asks of a `Surrogate`.

    Attributes:
        rest: fitted to the values without the prior mean.
        factor: of the prior mean.
        slopes: (features,) of the prior mean, without the factor.
        spread: standard deviation of the values.
    """

    rest: Surrogate
    factor: float
    slopes: np.ndarray
    spread: float

    def skill(self) -> float:
        """Leave-one-out R² of the values, with the factor as it is."""
        return 1.0 - (1.0 - self.rest.skill()) * (self.rest.spread / self.spread) ** 2

    def believing(self, x: np.ndarray) -> Informed:
        """See `Surrogate.believing`."""
        return replace(self, rest=self.rest.believing(x))

    def draw(self, rng: np.random.Generator, boldness: float = 1.0) -> Function:
        """Draw a function from the posterior; see `Surrogate.draw`."""
        drawn, mean = self.rest.draw(rng, boldness), _linear(self.factor * self.slopes)
        return lambda x: drawn(x) + mean(x)


def _linear(slopes: np.ndarray) -> Function:
    """The linear function of the first features, in the precision they have; further ones (the size) do not count."""
    return lambda x: x[:, : len(slopes)] @ slopes.astype(x.dtype)


def rows_of(prior: Mapping[str, Sequence[float]] | Iterable[Sequence[Any]]) -> tuple[Row, ...]:
    """Expected effects as options keep them.

    Args:
        prior: technique -> (mean, standard deviation), or rows of the three.

    Raises:
        ValueError: something else, or a standard deviation that is not positive.
    """
    try:
        rows = [(name, *pair) for name, pair in prior.items()] if isinstance(prior, Mapping) else [tuple(row) for row in prior]
        found = tuple((name, float(mean), float(sd)) for name, mean, sd in rows)
    except (TypeError, ValueError):
        raise ValueError(f"prior={prior!r:.80} {ALLOWED}") from None
    for name, mean, sd in found:
        if not isinstance(name, str) or not math.isfinite(mean) or not 0 < sd < math.inf:
            raise ValueError(f"prior: {name!r} has the mean {mean:g} and the standard deviation {sd:g}; it {ALLOWED}")
    return found
