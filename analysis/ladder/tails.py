"""Sizes of techniques: the population that a ladder's techniques are drawn from has heavy tails.

One technique in fourteen may be worth thirty times what the others are: `smear_gate` costs 0.26 bits per byte in 28 steps of a
small model and nothing after 108. In a normal population it would make everything else look uncertain, too. So technique i has
a size sᵢ that stretches its effect, its slopes, its model error and its deviations on single rungs alike. Sizes are powers of
two; each further factor of two is half as probable (`CHANCES`), so that an effect's distribution falls off as a power.

sᵢ is drawn by Gibbs' sampler: given all other techniques, the rows of technique i are Gaussian with a covariance that is linear
in sᵢ², so that every size's probability has a closed form.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from golflab.analysis.ladder.hierarchy import DRAWS, Array, Hierarchy

STEPS = np.arange(-2, 5)  # log₂ of the sizes: a quarter to sixteen
LOG_SIZES = STEPS * np.log(2)
CHANCES = 2.0 ** -np.abs(STEPS) / (2.0 ** -np.abs(STEPS)).sum()
ROUNDS, SETTLING, KEPT, LAST = 2, 8, 16, 2  # of fits of θ; sweeps that are left out, and kept, in each; and for every draw


def joint_draws(model: Hierarchy, techniques: int, count: int = DRAWS, seed: int = 0) -> Array:
    """(count, 9 + techniques) draws of θ and log s.

    θ is drawn given the mean of log s, which Gibbs' sampler finds at the most probable θ; for every θ, s is then drawn anew.

    Args:
        model: with its data.
        techniques: how many.
        count: of draws.
        seed: of the draws.
    """
    generator = np.random.default_rng([seed, 1])
    sizes, mode = np.zeros(techniques), model.mode(np.zeros(techniques))
    step = np.full(techniques, int(np.flatnonzero(STEPS == 0)[0]))
    for _ in range(ROUNDS):
        kept = _sweeps(model, mode, step, SETTLING + KEPT, generator)[SETTLING:]
        sizes, step = LOG_SIZES[kept].mean(axis=0), kept[-1]
        mode = model.mode(sizes, mode)
    thetas = model.draws(count, seed, sizes, mode)
    starts = kept[np.arange(count) % KEPT]
    drawn = [_sweeps(model, theta, start, LAST, generator)[-1] for theta, start in zip(thetas, starts, strict=True)]
    return np.hstack([thetas, LOG_SIZES[np.array(drawn)]])


def _sweeps(
    model: Hierarchy, theta: Array, step: NDArray[np.int64], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """(count, techniques) numbers of the sizes after each sweep over all techniques."""
    step, own, out = step.copy(), model.own(theta), []
    covariance = model.covariance(np.append(theta, LOG_SIZES[step]))
    precision = linalg.inv(covariance, check_finite=False)
    rows = [np.flatnonzero(model.technique == k) for k in range(len(step))]
    blocks = [own[np.ix_(mine, mine)] for mine in rows]
    for _ in range(count):
        for k, (mine, block) in enumerate(zip(rows, blocks, strict=True)):
            part = precision[:, mine]
            found = _draw(part[mine], model.delta @ part, block, LOG_SIZES[step[k]], generator)
            if found != step[k]:
                change = (np.exp(2 * LOG_SIZES[found]) - np.exp(2 * LOG_SIZES[step[k]])) * block
                inner = np.linalg.solve(np.eye(len(mine)) + change @ part[mine], change)
                precision -= part @ inner @ part.T  # Woodbury
                step[k] = found
        out.append(step.copy())
    return np.array(out)


def _draw(precision: Array, pull: Array, own: Array, now: float, generator: np.random.Generator) -> int:
    """A size for one technique, given all others.

    Args:
        precision: (r, r) its block of the inverse covariance.
        pull: (r,) its part of the inverse covariance times the data.
        own: (r, r) covariance of what a technique of size 1 has for itself.
        now: log of the size that ``precision`` is for.
        generator: draws.
    """
    conditional = np.linalg.inv(precision)  # covariance of its rows given all others
    residual = conditional @ pull
    noise = conditional - np.exp(2 * now) * own
    every = noise + np.exp(2 * LOG_SIZES)[:, None, None] * own
    _, logs = np.linalg.slogdet(every)
    solved = np.linalg.solve(every, residual[None, :, None])[..., 0]
    score = np.log(CHANCES) - 0.5 * (logs + solved @ residual)
    chance = np.exp(score - score.max())
    return int(np.searchsorted(np.cumsum(chance), generator.random() * chance.sum()))
