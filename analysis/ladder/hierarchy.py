"""The model of a ladder: every technique's effect as a curve over two logarithms, pooled over techniques, with model error.

Let x = log(tokens per parameter) and z = log(parameters), both minus their means over the rungs that ran. Technique i has on a
rung the effect

    δᵢ(x, z) = aᵢ + bᵢ·g(x) + cᵢ·g(z) + mᵢ(x, z) + wᵢ,rung + run noise,    g(d) = (1 − exp(−κd))/κ
    bᵢ = λx·aᵢ + b'ᵢ,   cᵢ = λz·aᵢ + c'ᵢ,   aᵢ ~ N(μa, sᵢ²τa²),   b'ᵢ ~ N(μb, sᵢ²τb²),   c'ᵢ ~ N(μc, sᵢ²τc²)

* λ is the share of an effect that techniques in general lose or gain per e-fold.
* κ bends the line: at 0 effects are linear in the logarithms; above it they level out. With λ = −κ they fall exponentially
  to 0, which is a power law in tokens or parameters. A ladder is too short to tell κ, so predictions average over it.
* mᵢ is the model error: a Brownian field (Lévy, 1948) that is 0 in the middle of the ladder. Its variance grows with the
  distance from there by sᵢ²σm² per e-fold, so that an extrapolation over six e-folds is believed less than one over two.
* wᵢ,rung ~ N(0, sᵢ²τw²) is what a technique has on one rung alone, from a knob that does not suit it, say.
* sᵢ is how large technique i is in all of this: see `golflab.analysis.ladder.tails`.
* The noise of two techniques on a rung is correlated by ρ, because they share the runs that they are compared with.

Everything is Gaussian given the nine numbers θ and the sizes s, so their likelihood has a closed form. θ is not fixed at its
best value: it is drawn from its posterior by importance sampling around the mode, and predictions are averages over the draws.
All functions take θ with log s behind it, one number a technique; without them all sizes are 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

# Priors of θ: log τa, log τb, log τc, λx, λz, log σm, log τw, logit ρ, log κ. Their middles in bits per byte (κ per e-fold),
# and their spreads (1 on a log scale is a factor of 2.7 either way). They decide where few techniques or rungs ran, and fade
# as more do.
MIDDLE = np.array([*np.log([0.015, 0.003, 0.003]), 0.0, 0.0, *np.log([0.002, 0.001]), 0.0, np.log(0.1)])
SPREAD = np.array([1.0, 1.0, 1.0, 0.15, 0.15, 1.0, 1.0, 1.0, 1.0])
MEAN_SD = np.array([0.01, 0.002, 0.002])  # prior standard deviations of μ
DRAWS = 300
NEW, TREND, FULL = -1, -2, -3  # in place of a rung's number: one that did not run, none, and the prior's at full scale
MOST_BEND = 2.0  # of κ; steeper curves are flat after half an e-fold anyhow

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Posterior:
    """What the model knows of some points, as a mixture of Gaussians with equal weights.

    Attributes:
        means: (draws, techniques, points).
        covariances: (draws, techniques, points, points).
    """

    means: Array
    covariances: Array

    def moments(self) -> tuple[Array, Array]:
        """Mean (techniques, points) and covariance (techniques, points, points) of the mixture."""
        mean = self.means.mean(axis=0)
        away = self.means - mean
        return mean, self.covariances.mean(axis=0) + np.einsum("dtp,dtq->tpq", away, away) / len(away)

    def samples(self, each: int = 20, seed: int = 0) -> Array:
        """(draws × each, techniques, points) values drawn from the mixture."""
        draws, count, points = self.means.shape
        noise = np.random.default_rng(seed).standard_normal((each, draws, count, points))
        values, vectors = np.linalg.eigh(self.covariances)
        root = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
        return (self.means + np.einsum("dtpq,edtq->edtp", root, noise)).reshape(each * draws, count, points)


@dataclass
class Hierarchy:
    """A ladder's differences with what the covariance needs, worked out once.

    Args:
        technique: (n,) number of the technique of each row.
        where: (n, 2) log tokens per parameter and log parameters of each row.
        delta: (n,) differences, bits per byte.
        variance: (n,) of their run noise.
        rungs: (n,) number of the rung; `FULL` for the prior about full scale.
        middle: (2,) the ladder's middle, subtracted from ``where``.
    """

    technique: NDArray[np.int64]
    where: Array
    delta: Array
    variance: Array
    rungs: NDArray[np.int64]
    middle: Array
    _cache: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.where = self.where - self.middle
        same = (self.technique[:, None] == self.technique).astype(float)
        together = self.rungs[:, None] == self.rungs
        shared = together & ((self.rungs != FULL) | np.eye(len(self.rungs), dtype=bool))  # a prior has no runs to share
        noise = np.sqrt(np.outer(self.variance, self.variance))
        self._cache = {
            "same": same,
            "field": same * levy(self.where, self.where),
            "wobble": same * together,
            "shared": shared * noise,
        }

    def covariance(self, theta: Array) -> Array:
        """(n, n) of the differences, given θ."""
        _, common = own_and_common(theta)
        c, phi = self._cache, features(self.where, theta)
        rho = 1 / (1 + np.exp(-theta[7]))
        total = phi @ common @ phi.T + squares(theta, self.technique)[:, None] * self.own(theta) + rho * c["shared"]
        total[np.diag_indices_from(total)] += (1 - rho) * self.variance
        return np.asarray(total)

    def own(self, theta: Array) -> Array:
        """(n, n) covariance of what techniques of size 1 have for themselves; 0 between two techniques."""
        c, phi = self._cache, features(self.where, theta)
        around = c["same"] * (phi @ own_and_common(theta)[0] @ phi.T)
        return np.asarray(around + np.exp(2 * theta[5]) * c["field"] + np.exp(2 * theta[6]) * c["wobble"])

    def cost(self, theta: Array) -> float:
        """−log of the posterior density of θ, up to a constant."""
        try:
            factor = linalg.cholesky(self.covariance(theta), lower=True, check_finite=False)
        except (linalg.LinAlgError, ValueError):
            return 1e10
        half = linalg.solve_triangular(factor, self.delta, lower=True, check_finite=False)
        prior = 0.5 * np.sum(((theta[: len(MIDDLE)] - MIDDLE) / SPREAD) ** 2)
        return float(np.log(np.diag(factor)).sum() + 0.5 * half @ half + prior)

    def mode(self, sizes: Array, start: Array = MIDDLE) -> Array:
        """(9,) the most probable θ, given (techniques,) log s."""
        bounds = [(m - 6 * s, m + 6 * s) for m, s in zip(MIDDLE, SPREAD, strict=True)]
        cost = lambda theta: self.cost(np.append(theta, sizes))
        return np.asarray(optimize.minimize(cost, start, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-7}).x)

    def draws(self, count: int, seed: int, sizes: Array, mode: Array) -> Array:
        """(count, 9) values of θ from its posterior, given log s: importance sampling from a Student t around the mode."""
        cost = lambda theta: self.cost(np.append(theta, sizes))
        values, vectors = np.linalg.eigh(_hessian(cost, mode, 0.1 * SPREAD))
        # no direction is wider than its prior, or narrower than a hundredth of it
        root = vectors / np.sqrt(np.clip(values, 1 / SPREAD.max() ** 2, 1e4))
        generator, df = np.random.default_rng(seed), 6.0
        normal = generator.standard_normal((3 * count, len(mode)))
        stretch = np.sqrt(df / generator.chisquare(df, 3 * count))
        unit = normal * stretch[:, None]
        theta = mode + unit @ root.T
        proposal = -0.5 * (df + len(mode)) * np.log1p((unit**2).sum(axis=1) / df)
        weight = np.array([-cost(t) for t in theta]) - proposal
        weight = np.exp(np.minimum(weight - weight.max(), 0.0))
        return np.asarray(theta[_systematic(weight / weight.sum(), count, generator)])

    def posterior(self, thetas: Array, points: Array, rungs: NDArray[np.int64], techniques: int) -> Posterior:
        """What is known of every technique at (p, 2) points of log tokens per parameter and log parameters.

        Args:
            thetas: of `draws`.
            points: where.
            rungs: (p,) number of the rung that each point is, `NEW` for one that did not run, `FULL` for full scale, or `TREND`
                for the trend there without a rung's own deviation wᵢ.
            techniques: how many; a number that no row has is a technique never seen.
        """
        where = points - self.middle
        near = levy(where, self.where)
        mine = np.arange(techniques)[:, None] == self.technique  # (t, n)
        inner, known = levy(where, where), (rungs[:, None] == self.rungs).astype(float)
        own_rung = (rungs != TREND).astype(float)
        means, covariances = [], []
        for theta in thetas:
            own, common = own_and_common(theta)
            phi, ours = features(where, theta), features(self.where, theta)
            factor = linalg.cholesky(self.covariance(theta), lower=True, check_finite=False)
            square = squares(theta, np.arange(techniques))[:, None, None]
            across = phi @ common @ ours.T  # (p, n)
            beside = phi @ own @ ours.T + np.exp(2 * theta[5]) * near + np.exp(2 * theta[6]) * known
            cross = across[None] + square * mine[:, None, :] * beside[None]  # (t, p, n)
            solved = linalg.solve_triangular(factor, cross.reshape(-1, len(self.delta)).T, lower=True, check_finite=False)
            half = linalg.solve_triangular(factor, self.delta, lower=True, check_finite=False)
            means.append((solved.T @ half).reshape(techniques, -1))
            part = solved.T.reshape(techniques, len(points), -1)
            alone = phi @ own @ phi.T + np.exp(2 * theta[5]) * inner + np.diag(own_rung * np.exp(2 * theta[6]))
            prior = phi @ common @ phi.T + square * alone
            covariances.append(prior - part @ part.transpose(0, 2, 1))
        return Posterior(np.array(means), np.array(covariances))


def levy(a: Array, b: Array) -> Array:
    """(p, q) covariance of Lévy's Brownian field of two arguments that is 0 at the origin."""
    return np.asarray(
        (np.linalg.norm(a, axis=1)[:, None] + np.linalg.norm(b, axis=1) - np.linalg.norm(a[:, None] - b[None], axis=2)) / 2
    )


def features(at: Array, theta: Array) -> Array:
    """(p, 3) columns that aᵢ, bᵢ and cᵢ multiply, at (p, 2) distances from the middle."""
    bend = min(float(np.exp(theta[8])), MOST_BEND)
    return np.column_stack([np.ones(len(at)), -np.expm1(-bend * at) / bend])


def own_and_common(theta: Array) -> tuple[Array, Array]:
    """(3, 3) covariance of a technique's own coefficients, and of the means that all techniques share."""
    lower = np.eye(3)
    lower[1, 0], lower[2, 0] = theta[3], theta[4]
    return lower @ np.diag(np.exp(2 * theta[:3])) @ lower.T, lower @ np.diag(MEAN_SD**2) @ lower.T


def squares(theta: Array, technique: NDArray[np.int64]) -> Array:
    """(n,) s² of these techniques; 1 where θ brings no sizes or the technique is a new one."""
    sizes = np.exp(2 * theta[len(MIDDLE) :])
    known = technique < len(sizes)
    return np.where(known, sizes[np.where(known, technique, 0)], 1.0) if len(sizes) else np.ones(len(technique))


def _hessian(cost: Callable[[Array], float], at: Array, step: Array) -> Array:
    """Second derivatives by central differences."""
    size, unit = len(at), np.diag(step)
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(i, size):
            corners = [(1, 1, 1), (-1, -1, 1), (1, -1, -1), (-1, 1, -1)]
            total = sum(sign * cost(at + a * unit[i] + b * unit[j]) for a, b, sign in corners)
            out[i, j] = out[j, i] = total / (4 * step[i] * step[j])
    return out


def _systematic(weight: Array, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``count`` indices, each about ``count``·weight times."""
    steps = (generator.random() + np.arange(count)) / count
    return np.minimum(np.searchsorted(np.cumsum(weight), steps), len(weight) - 1)
