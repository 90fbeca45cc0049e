"""Surrogate: a Bayesian linear model with all pairwise terms, plus a smooth part for the rest.

Written as a Gaussian process, the sum of a linear, a quadratic and a stationary kernel over the features of
`golflab.search.sampler.encoding`. The kernels (1 + x·z/p) and (x·z/p)² are exactly the linear model and its pairwise terms,
but need an n × n matrix instead of a p² × p² one. Variances are chosen by the marginal likelihood of the trials. So is the
relevance of each feature, because most techniques have small effects (automatic relevance determination: MacKay, 1992).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

NUGGET = 1e-6
STEPS = 20  # of choosing variances and relevances
SCALES = 5  # variances that all features share
RELEVANCE_SD = 0.5  # of log relevances


@dataclass
class Surrogate:
    """Fitted to features (n, p) and values (n,); `draw` gives functions from the posterior.

    Attributes:
        x: the features it was fitted to, times their relevances.
        y: the values, standardised.
        log_scales: logarithms of the variances (linear, pairwise, smooth), of the smooth part's squared length, of the noise.
        relevance: (p,) factor of each feature.
        mean: of the values.
        spread: their standard deviation.
        factor: Cholesky factor of their covariance.
        weights: inverse covariance times ``y``.
    """

    x: np.ndarray
    y: np.ndarray
    log_scales: np.ndarray
    relevance: np.ndarray
    mean: float
    spread: float
    factor: np.ndarray
    weights: np.ndarray

    @staticmethod
    def fit(x: np.ndarray, y: np.ndarray) -> Surrogate:
        """Fit by maximising the marginal likelihood, with priors that prevent overfitting to few trials."""
        z, begin = (y - np.mean(y)) / (np.std(y) or 1.0), np.append(_START, np.zeros(x.shape[1]))
        bounds, options = [*_BOUNDS, *[_BOUND] * x.shape[1]], {"maxiter": STEPS}
        found = minimize(_cost, begin, (x.astype(np.float64), z), "L-BFGS-B", jac=True, bounds=bounds, options=options).x
        return Surrogate.given(x, y, found[:SCALES], np.exp(found[SCALES:]))

    @staticmethod
    def given(x: np.ndarray, y: np.ndarray, log_scales: np.ndarray, relevance: np.ndarray) -> Surrogate:
        """Fit with variances and relevances that are known."""
        x, mean, spread = x * relevance, float(np.mean(y)), float(np.std(y)) or 1.0
        z = (y - mean) / spread
        return Surrogate(x, z, log_scales, relevance, mean, spread, *_solve(_Parts.of(x, x).kernel(log_scales), z, log_scales))

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and standard deviation of the function (without noise) at features (m, p)."""
        x = x * self.relevance
        cross = _Parts.of(x, self.x).kernel(self.log_scales)
        inner = cho_solve((self.factor, True), cross.T)
        own = _diagonal(x, self.log_scales)
        variance = np.maximum(own - np.einsum("ij,ji->i", cross, inner), 1e-12)
        return self.mean + self.spread * (cross @ self.weights), self.spread * np.sqrt(variance)

    def means(self, x: np.ndarray) -> np.ndarray:
        """Posterior mean alone, at features (m, p)."""
        return self.mean + self.spread * self.weighted(self.relevant(x), self.weights)

    def relevant(self, x: np.ndarray) -> np.ndarray:
        """Features (m, p) times their relevances, in the precision they have."""
        return x * self.relevance.astype(x.dtype)

    def weighted(self, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(m,) covariances of relevant features (m, p) with the fitted ones times weights (n,), in the precision of ``x``."""
        kind = x.dtype
        return _Parts.of(x, self.x.astype(kind)).kernel(self.log_scales.astype(kind)) @ weights.astype(kind)

    def left_out(self) -> np.ndarray:
        """Leave-one-out predictions of the fitted values, in closed form."""
        return self.mean + self.spread * (self.y - self.weights / np.diag(_inverse(self.factor)))

    def skill(self) -> float:
        """Leave-one-out R²: share of the variance that is predicted; negative if the mean predicts better."""
        residual = (self.y * self.spread + self.mean) - self.left_out()
        return 1.0 - float(np.mean(residual**2)) / self.spread**2

    def believing(self, x: np.ndarray) -> Surrogate:
        """The model as if trials at features (m, p) had finished with the predicted values; its variance is smaller there."""
        if not len(x):
            return self
        features, z = np.concatenate([self.x, self.relevant(x)]), np.append(self.y, (self.means(x) - self.mean) / self.spread)
        solved = _solve(_Parts.of(features, features).kernel(self.log_scales), z, self.log_scales)
        return Surrogate(features, z, self.log_scales, self.relevance, self.mean, self.spread, *solved)

    def draw(self, rng: np.random.Generator, boldness: float = 1.0) -> Draw:
        """Draw a function from the posterior by Matheron's rule: a function from the prior, corrected by the data.

        Args:
            rng: draws it.
            boldness: factor of the deviations from the posterior mean; 1 draws from the posterior, 0 gives the mean.
        """
        prior = _Prior(self.x.shape[1], self.log_scales, rng, boldness)
        noise = boldness * np.exp(0.5 * self.log_scales[4]) * rng.standard_normal(len(self.y))
        correction = cho_solve((self.factor, True), self.y - prior(self.x) - noise)
        return Draw(self, prior, correction)


@dataclass
class Draw:
    """One function from the posterior, cheap to evaluate anywhere."""

    of: Surrogate
    prior: _Prior
    correction: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Its values at features (m, p)."""
        x = self.of.relevant(x)
        return self.of.mean + self.of.spread * (self.prior(x) + self.of.weighted(x, self.correction))


_START = np.array([-0.7, -1.5, -2.5, 0.0, -4.0])
_BOUNDS, _BOUND = [(-6.0, 3.0), (-7.0, 3.0), (-7.0, 2.0), (-3.0, 2.0), (-9.0, 1.0)], (-4.0, 3.0)
# Log-normal priors on the scales: linear before pairwise before smooth, little noise.
_PRIOR_MEAN = np.array([0.0, -1.5, -2.5, 0.0, -4.0])
_PRIOR_SD = np.array([1.5, 1.5, 1.5, 0.8, 1.5])


@dataclass
class _Parts:
    """Inner products and squared distances of two sets of features, per feature."""

    dot: np.ndarray
    far: np.ndarray

    @staticmethod
    def of(a: np.ndarray, b: np.ndarray) -> _Parts:
        p = max(1, a.shape[1])
        dot = (a / p) @ b.T
        far = dot * -2.0  # in place from here on: these are the largest arrays of a proposal
        far += np.einsum("ij,ij->i", a, a)[:, None] / p
        far += np.einsum("ij,ij->i", b, b)[None, :] / p
        return _Parts(dot, np.maximum(far, 0.0, out=far))

    def near(self, s: np.ndarray) -> np.ndarray:
        """The stationary part of the kernel."""
        smooth, length = np.exp(s[2:4])
        found = self.far * (-1.0 / length)
        np.exp(found, out=found)
        found *= smooth
        return found

    def kernel(self, s: np.ndarray, near: np.ndarray | None = None) -> np.ndarray:
        """The sum of the three; the stationary part can be given where it is needed elsewhere too."""
        linear, pairs = np.exp(s[:2])
        found = self.dot * pairs
        found += linear
        found *= self.dot
        found += self.near(s) if near is None else near
        found += 0.2 * linear
        return found


def _diagonal(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    own = np.sum(x**2, 1) / max(1, x.shape[1])
    linear, pairs, smooth = np.exp(s[:3])
    return linear * (0.2 + own) + pairs * own**2 + smooth


def _solve(kernel: np.ndarray, z: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cholesky factor of kernel and noise, and their inverse times ``z``; the noise is added to ``kernel`` itself."""
    kernel[np.diag_indices_from(kernel)] += np.exp(s[4]) + NUGGET
    factor = cholesky(kernel, lower=True, check_finite=False)
    return factor, cho_solve((factor, True), z, check_finite=False)


def _inverse(factor: np.ndarray) -> np.ndarray:
    """The inverse of a matrix from its lower Cholesky factor: two thirds of the work of solving for every column."""
    lower, _ = dpotri(factor, lower=1)  # above the diagonal are the factor's zeros
    inverse = lower + lower.T
    inverse[np.diag_indices_from(inverse)] *= 0.5
    return inverse


def _cost(theta: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[float, np.ndarray]:
    """Negative log marginal likelihood plus priors, and its gradient, of log scales followed by log relevances."""
    s, relevance = theta[:SCALES], theta[SCALES:]
    x = x * np.exp(relevance)
    parts = _Parts.of(x, x)
    near = parts.near(s)
    try:
        factor, weights = _solve(parts.kernel(s, near), z, s)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(theta)
    away = np.append((s - _PRIOR_MEAN) / _PRIOR_SD, relevance / RELEVANCE_SD)
    value = 0.5 * float(z @ weights) + float(np.sum(np.log(np.diag(factor)))) + 0.5 * float(away @ away)
    slope = away / np.append(_PRIOR_SD, np.full(len(relevance), RELEVANCE_SD))
    return value, _slope(parts, near, x, s, _inverse(factor) - np.outer(weights, weights)) + slope


def _slope(parts: _Parts, near: np.ndarray, x: np.ndarray, s: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Gradient of the likelihood's part of `_cost`, where ``inner`` is twice its gradient by the covariance.

    Each product of two (n, n) arrays is made once and summed in several ways: they are most of a proposal's time.
    """
    linear, pairs, _, length, noise = np.exp(s)
    by_dot, by_far = inner * parts.dot, inner * near
    scales = [
        linear * (0.2 * np.sum(inner) + np.sum(by_dot)),
        pairs * np.vdot(by_dot, parts.dot),
        np.sum(by_far),
        np.vdot(by_far, parts.far) / length,
        noise * np.trace(inner),
    ]
    # A feature acts through the inner products and the squared distances, each of them a sum over features.
    by_far *= 2 / length
    by_dot *= 2 * pairs
    by_dot += linear * inner
    by_dot += by_far
    acts = np.einsum("ij,ij->j", by_dot @ x, x) - by_far.sum(axis=1) @ x**2
    return np.append(0.5 * np.array(scales), acts / max(1, x.shape[1]))


class _Prior:
    """A function from the prior: random linear and pairwise weights, and random Fourier features for the smooth part."""

    def __init__(self, p: int, s: np.ndarray, rng: np.random.Generator, height: float, waves: int = 128) -> None:
        linear, pairs, smooth, length = np.exp(s[:4])
        self._level = float(height * np.sqrt(0.2 * linear) * rng.standard_normal())
        self._linear = _single(height * np.sqrt(linear / p) * rng.standard_normal(p))
        self._pairs = _single(height * np.sqrt(pairs) / p * rng.standard_normal((p, p)))
        self._waves = _single(rng.standard_normal((p, waves)) * np.sqrt(2 / (length * p)))
        self._phases = _single(rng.uniform(0, 2 * np.pi, waves))
        self._heights = _single(height * np.sqrt(2 * smooth / waves) * rng.standard_normal(waves))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        smooth = np.cos(x @ self._waves + self._phases) @ self._heights
        return self._level + x @ self._linear + np.sum((x @ self._pairs) * x, axis=1) + smooth


def _single(weights: np.ndarray) -> np.ndarray:
    """In single precision: it ranks thousands of candidates equally well in half the time."""
    return weights.astype(np.float32)
