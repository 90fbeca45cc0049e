"""Worlds to search in: planted effects under a size limit, and a public table of measured architectures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

NOISE = 0.00068  # bits per byte between seeds of one submission

Params = dict[str, Any]


@dataclass(frozen=True)
class World:
    """Something to be searched: smaller values are better, sizes over 1 do not fit."""

    name: str
    space: dict[str, BaseDistribution]
    value: Callable[[Params], float]
    size: Callable[[Params], float]
    noise: float

    def measured(self, params: Params, rng: np.random.Generator) -> float:
        return self.value(params) + self.noise * float(rng.standard_normal())


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
    body = {"layers": (8, 9, 10, 11, 12), "mlp": (2.0, 2.5, 3.0, 3.5, 4.0), "width": (384, 448, 512, 576), "bits": (5, 6, 8)}
    space: dict[str, BaseDistribution] = {name: CategoricalDistribution((False, True)) for name in names}
    space |= {name: CategoricalDistribution(values) for name, values in body.items()}
    best_mlp = rng.uniform(2.2, 3.8)

    def weights(p: Params) -> float:
        return p["layers"] * p["width"] ** 2 * (3 + 2 * p["mlp"]) / 1e6

    def unscaled(p: Params) -> float:
        on = np.array([p[name] for name in names])
        return weights(p) * p["bits"] / 8 * (1 + float(on @ costs))

    draws = [{name: rule.choices[rng.integers(len(rule.choices))] for name, rule in space.items()} for _ in range(2000)]  # type: ignore[attr-defined]
    limit = float(np.quantile([unscaled(p) for p in draws], 0.35))  # 65 % of random combinations do not fit

    def value(p: Params) -> float:
        on = np.array([p[name] for name in names], dtype=float)
        total = float(on @ effects) + sum(w * on[i] * on[j] for i, j, w in pairs)
        total += sum(w * on[i] * on[j] * on[k] for i, j, k, w in triples)
        body_term = -0.022 * np.log(weights(p) / 20) + {5: 0.006, 6: 0.002, 8: 0.0}[p["bits"]]
        if kind == "nonlinear":
            total = -0.03 * np.tanh(-total / 0.03)
            body_term += 0.006 * (p["mlp"] - best_mlp) ** 2 + 0.003 * np.cos(2.5 * p["layers"])
        return 1.12 + total + float(body_term)

    return World(f"planted/{kind}/{seed}", space, value, lambda p: unscaled(p) / limit, NOISE)


def graphs(dataset: str, seed: int = 0) -> World:
    """NAS-Bench-Graph (Qin et al., 2022; ``pip install nas-bench-graph``): 26,206 measured architectures per data set.

    Value: one minus test accuracy. Size: parameters over the 40 % quantile. The table has no noise; the size is known.
    """
    from nas_bench_graph import Arch, light_read

    table = light_read(dataset)
    structures = [
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 1],
        [0, 0, 1, 2],
        [0, 0, 1, 3],
        [0, 1, 1, 1],
        [0, 1, 1, 2],
        [0, 1, 2, 2],
        [0, 1, 2, 3],
    ]
    operations = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
    sizes = sorted(row["para"] for row in table.values())
    limit = sizes[int(0.4 * len(sizes))]
    space: dict[str, BaseDistribution] = {"links": CategoricalDistribution(tuple(range(9)))}
    space |= {f"op{i}": CategoricalDistribution(operations) for i in range(4)}

    def row(p: Params) -> dict[str, float] | None:
        arch = Arch(structures[p["links"]], [p[f"op{i}"] for i in range(4)])
        return table.get(arch.valid_hash())

    def value(p: Params) -> float:
        found = row(p)
        return 1.0 - found["perf"] if found else 1.0

    def size(p: Params) -> float:
        found = row(p)
        return found["para"] / limit if found else 2.0

    return World(f"graphs/{dataset}/{seed}", space, value, size, 0.0)


def with_knobs(world: World, count: int) -> World:
    """The world with ``count`` further numbers that matter little, for timing."""
    return World(
        world.name,
        world.space | {f"k{i}": FloatDistribution(1e-3, 1.0, log=True) for i in range(count)},
        world.value,
        world.size,
        world.noise,
    )
