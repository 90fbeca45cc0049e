"""Worlds that are hard to search, each in one way: thresholds, clashes, narrow knobs, noise, little that fits, needles.

Each is `benchmarks.worlds.planted` with one thing changed, so that a method's score tells what it can and cannot do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from optuna.distributions import FloatDistribution

from benchmarks.worlds import NOISE, Params, World, planted
from golflab.search.sampler.encoding import Encoding

LOW, HIGH = 1e-3, 1.0  # range of a knob; it is searched on the log scale


def thresholds(seed: int) -> World:
    """Five sets of four techniques: three or more of a set together gain 0.012 bpb, fewer gain nothing. Width acts in one step.

    Every technique of a set costs up to 0.003 alone, so that a search which adds one technique at a time is discouraged.
    """
    plain, rng = planted(seed), _rng(seed, 1)
    sets, costs = rng.permutation(40)[:20].reshape(5, 4), rng.uniform(0.0, 0.003, (5, 4))
    step = int(rng.choice([448, 512, 576]))

    def extra(p: Params) -> float:
        on = np.array([[p[_name(i)] for i in members] for members in sets])
        return float((on * costs).sum()) - 0.012 * int((on.sum(axis=1) >= 3).sum()) - 0.01 * (p["width"] >= step)

    return _changed(plain, f"thresholds/{seed}", lambda p: plain.value(p) + extra(p))


def exclusive(seed: int) -> World:
    """Six sets of four techniques that exclude each other: the best of a set that is on gains, each further costs 0.012."""
    plain, rng = planted(seed), _rng(seed, 2)
    sets, gains = rng.permutation(40)[:24].reshape(6, 4), rng.uniform(0.002, 0.012, (6, 4))

    def extra(p: Params) -> float:
        on = np.array([[p[_name(i)] for i in members] for members in sets])
        best = np.where(on, gains, 0.0).max(axis=1).sum()
        return 0.012 * float(np.maximum(0, on.sum(axis=1) - 1).sum()) - float(best)

    return _changed(plain, f"exclusive/{seed}", lambda p: plain.value(p) + extra(p))


def strong_triples(seed: int) -> World:
    """Ten three-way effects of 0.012 bpb (standard deviation), larger than all single effects together with their pairs."""
    plain, rng = planted(seed), _rng(seed, 3)
    triples = [(rng.choice(40, 3, replace=False), rng.normal(0, 0.012)) for _ in range(10)]

    def extra(p: Params) -> float:
        return float(sum(w for members, w in triples if all(p[_name(i)] for i in members)))

    return _changed(plain, f"strong triples/{seed}", lambda p: plain.value(p) + extra(p))


def infeasible(seed: int) -> World:
    """90 % of random combinations do not fit."""
    plain, rng = planted(seed), _rng(seed, 4)
    encoding = Encoding(plain.space)
    factor = float(np.quantile([plain.size(encoding.params(row)) for row in encoding.draw(2000, rng)], 0.10))
    return replace(plain, name=f"infeasible/{seed}", size=lambda p: plain.size(p) / factor)


def sharp(seed: int, knobs: int = 20, width: float = 0.08) -> World:
    """Twenty techniques with a knob each, which counts only while its technique is on and whose best value is narrow.

    At the knob's best value the technique gains 0.002 to 0.016 bpb. At ``width`` of the range from it 39 % of that is lost, and
    far from it the technique costs as much as it can gain. The best values lie anywhere.
    """
    plain, rng = planted(seed), _rng(seed, 5)
    owners = {f"k{i:02d}": (_name(int(t)), True) for i, t in enumerate(rng.permutation(40)[:knobs])}
    best = dict(zip(owners, rng.uniform(0.05, 0.95, knobs), strict=True))
    gains = dict(zip(owners, np.exp(rng.uniform(np.log(0.002), np.log(0.016), knobs)), strict=True))

    def extra(p: Params) -> float:
        on = [name for name, (owner, _) in owners.items() if p[owner]]
        return sum(gains[name] * (1.0 - 2.0 * np.exp(-0.5 * ((_unit(p[name]) - best[name]) / width) ** 2)) for name in on)

    space = plain.space | {name: FloatDistribution(LOW, HIGH, log=True) for name in owners}
    world = _changed(plain, f"sharp/{seed}", lambda p: plain.value(p) + float(extra(p)))
    return replace(world, space=space, owners=owners)


def noisy(seed: int) -> World:
    """Three times the noise."""
    plain = planted(seed)
    return _changed(plain, f"noisy/{seed}", plain.value, 3 * NOISE)


def needles(seed: int) -> World:
    """Two needles: two combinations of four techniques that gain 0.02 bpb each when they are complete, and nothing before."""
    plain, rng = planted(seed), _rng(seed, 6)
    sets = rng.permutation(40)[:8].reshape(2, 4)

    def extra(p: Params) -> float:
        return -0.02 * sum(all(p[_name(i)] for i in members) for members in sets)

    return _changed(plain, f"needles/{seed}", lambda p: plain.value(p) + extra(p))


def nearly_null(seed: int) -> World:
    """Only two techniques matter, 0.004 and 0.008 bpb, and the body plan a little. Most of what is measured is noise."""
    plain, rng = planted(seed), _rng(seed, 7)
    first, second = map(_name, rng.permutation(40)[:2])
    neutral = dict.fromkeys((_name(i) for i in range(40)), False)
    middle = plain.value(neutral | {"layers": 10, "halves": 6, "width": 448, "bits": 6})

    def value(p: Params) -> float:
        body = plain.value(p | neutral) - middle  # what the body plan is worth without any technique
        return 1.12 + 0.1 * body - 0.004 * p[first] - 0.008 * p[second]

    return _changed(plain, f"nearly null/{seed}", value)


HARD: dict[str, Callable[[int], World]] = {
    "thresholds": thresholds,
    "exclusive": exclusive,
    "strong triples": strong_triples,
    "infeasible": infeasible,
    "sharp": sharp,
    "noisy": noisy,
    "needles": needles,
    "nearly null": nearly_null,
}


def _rng(seed: int, kind: int) -> np.random.Generator:
    return np.random.default_rng([seed, 1000 + kind])


def _name(technique: int) -> str:
    return f"t{technique:02d}"


def _unit(value: float) -> float:
    """Position of a knob's value in its range, 0 to 1."""
    return float(np.log(value / LOW) / np.log(HIGH / LOW))


def _changed(world: World, name: str, value: Callable[[Params], float], noise: float = NOISE) -> World:
    """The world with another name, value and noise."""

    def measured(p: Params, rng: np.random.Generator) -> float:
        return value(p) + noise * float(rng.standard_normal())

    return replace(world, name=name, value=value, measured=measured)
