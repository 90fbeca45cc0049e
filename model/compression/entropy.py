"""Entropy of quantised Gaussian rows: the bits that a perfect coder would need, from the quantiser alone.

Everything here is about a row of C independent normal weights of deviation σ, rounded to levels −c … c at step s. The rate
depends only on r = σ/s; a clip rule's *reach* k = c·s/σ gives r = c/k.
"""

from __future__ import annotations

import functools
import heapq
import math


@functools.cache
def gaussian_reach(columns: int) -> float:
    """Typical largest |z| of ``columns`` standard normals: 2^E[log2 max|z|] (128: 2.80, 512: 3.23, 2048: 3.61)."""
    # E[log max] = ∫ log(x) dF(x)^C with F the distribution of |z|, by the midpoint rule in x.
    step, total, below = 1e-3, 0.0, 0.0
    for index in range(1, 7000):
        above = math.erf(index * step / math.sqrt(2)) ** columns
        total += (above - below) * math.log2((index - 0.5) * step)
        below = above
    return 2.0**total


def trained_reach(columns: int, role: str = "mlp") -> float:
    """`gaussian_reach` of rows as training leaves them.

    In matrices a few columns are larger than the others, and more so in narrow rows: 6 % beyond a Gaussian's at width 128
    after 128 steps, about 1 % in the challenge's baseline at 512. A token table hardly differs from a Gaussian. Rows looked up
    by hash or by layer see few updates, all of Adam's equal size, and stay flat: 10 % short of a Gaussian's at 64 columns.

    Args:
        columns: weights of a row.
        role: of the parameter (`layers.ParameterInfo`).
    """
    stretch = {"table": 1.0, "bigram": 0.9, "value": 0.9}.get(role, 1 + 8 / columns)
    return gaussian_reach(columns) * stretch


def floor_reach(columns: int) -> float:
    """Reach of a step of 1/largest: 1/σ, for which 1.1 times that of weights as they are drawn, √(3·columns), stands.

    A crude guess, since an absolute step makes the rate depend on how far training moved the weights: matrices of short runs
    ended between 0.7 and 2.6 times the deviation they began with. The factor is that of three presets "as published".
    """
    return 1.1 * math.sqrt(3 * columns)


@functools.cache
def mse_reach(largest: int) -> float:
    """The clip, in σ, at which uniform levels ±``largest`` have the least squared error for a Gaussian (7: 2.45, 127: 3.9)."""
    return min((gaussian_loss(k / 50, largest), k / 50) for k in range(25, 300))[1]


def gaussian_loss(reach: float, largest: int) -> float:
    """Mean squared error over σ² of rounding a Gaussian to ±``largest`` levels that reach ``reach`` σ."""
    step, loss = reach / largest, 0.0
    for level in range(-largest, largest + 1):
        low = -math.inf if level == -largest else (level - 0.5) * step
        high = math.inf if level == largest else (level + 0.5) * step
        # ∫ (x − a)² φ = ∫x²φ − 2a∫xφ + a²∫φ over the cell, all in closed form.
        mass, first, second = (upper - lower for upper, lower in zip(_moments(high), _moments(low), strict=True))
        loss += second - 2 * level * step * first + (level * step) ** 2 * mass
    return loss


def _moments(x: float) -> tuple[float, float, float]:
    """∫φ, ∫xφ and ∫x²φ from −∞ to ``x`` for the standard normal density φ."""
    if math.isinf(x):
        return (1.0, 0.0, 1.0) if x > 0 else (0.0, 0.0, 0.0)
    cumulative, density = 0.5 * (1 + math.erf(x / math.sqrt(2))), math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return cumulative, -density, cumulative - x * density


@functools.lru_cache(maxsize=4096)
def gaussian_entropy(ratio: float, largest: int, pruned: float = 0.0) -> float:
    """Bits per weight of a Gaussian rounded to −``largest`` … ``largest``, the end cells taking the tails.

    Args:
        ratio: σ over the step, r; above 0.7 and without clipping the answer is close to log2(r) + 2.047.
        largest: the largest level.
        pruned: fraction of smallest weights set to zero first.
    """
    zero, cells = gaussian_cells(ratio, largest, pruned)
    return -2 * sum(p * math.log2(p) for p in cells if p > 0) - (zero * math.log2(zero) if zero > 0 else 0.0)


@functools.lru_cache(maxsize=4096)
def gaussian_huffman(ratio: float, largest: int, pruned: float = 0.0) -> float:
    """Bits per weight of the same levels under a Huffman code, whose words are whole bits long; arguments as above.

    Its loss against the entropy changes between 0.3 and 15 % with the ratio, too irregularly for a smooth curve.
    """
    zero, cells = gaussian_cells(ratio, largest, pruned)
    heap = [p for p in [zero, *cells, *cells] if p > 0]
    heapq.heapify(heap)
    total = 0.0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


def gaussian_cells(ratio: float, largest: int, pruned: float = 0.0) -> tuple[float, list[float]]:
    """Probability of zero, and of every level 1 … ``largest`` (that of its negative is the same); arguments as above."""
    hole = _quantile_of_magnitude(pruned)
    cells = []
    for level in range(1, largest + 1):
        low = max((level - 0.5) / ratio, hole)
        high = math.inf if level == largest else max((level + 0.5) / ratio, hole)
        # The upper tail by erfc keeps its digits where erf would round to 1.
        cells.append(_tail(low) - _tail(high))
    return max(0.0, 1 - 2 * sum(cells)), cells


def _tail(x: float) -> float:
    return 0.0 if math.isinf(x) else 0.5 * math.erfc(x / math.sqrt(2))


def _quantile_of_magnitude(fraction: float) -> float:
    """x such that P(|z| < x) = ``fraction``, by bisection."""
    low, high = 0.0, 10.0
    for _ in range(60 if fraction else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erf(middle / math.sqrt(2)) < fraction else (low, middle)
    return low
