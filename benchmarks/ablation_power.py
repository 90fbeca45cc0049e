"""How well do designs recover planted effects? Worlds of 40 techniques, 14 real, 10 interacting pairs, noise 0.00068.

Every design is measured with the shipped functions only: `golflab.search.design.matrices` chooses the combinations,
`golflab.analysis.effects.contribution` reads the runs. Errors are against the effect averaged over all other techniques on or
off.

    python benchmarks/ablation_power.py --quick --json
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golflab.analysis.effects.contribution import contribution
from golflab.search.design import matrices as design

COUNT, REAL, PAIRS, NOISE = 40, 14, 10, 0.00068
WORTH_SEEING = 0.0009
FITTING = 0.3


@dataclass(frozen=True)
class World:
    """Planted truth in 0/1 coding.

    Attributes:
        effects: (40,) of each technique alone.
        pairs: (40, 40) upper triangle: what both add beyond the sum.
        cost: (40,) bytes.
        limit: bytes that `FITTING` of all combinations meet.
    """

    effects: np.ndarray
    pairs: np.ndarray
    cost: np.ndarray
    limit: float

    @staticmethod
    def draw(seed: int) -> World:
        """14 effects of 0.0005 to 0.008, three in four of them improvements; 10 pairs among those 14; skewed bytes."""
        generator = np.random.default_rng(seed)
        real = generator.choice(COUNT, REAL, replace=False)
        effects = np.zeros(COUNT)
        effects[real] = np.exp(generator.uniform(np.log(0.0005), np.log(0.008), REAL)) * generator.choice([-1, -1, -1, 1], REAL)
        pairs = np.zeros((COUNT, COUNT))
        options = [(i, j) for i, j in itertools.combinations(range(COUNT), 2) if i in real and j in real]
        for i, j in generator.permutation(options)[:PAIRS]:
            pairs[i, j] = generator.normal(0, 0.0013)
        cost = generator.gamma(1.0, 60_000.0, COUNT)
        limit = float(np.quantile((generator.random((4000, COUNT)) < 0.5) @ cost, FITTING))
        return World(effects, pairs, cost, limit)

    def average_effects(self) -> np.ndarray:
        """(40,) effects averaged over the others: what is to be recovered."""
        return self.effects + (self.pairs.sum(axis=0) + self.pairs.sum(axis=1)) / 2

    def score(self, x: np.ndarray) -> np.ndarray:
        """(runs,) noiseless bits per byte of (runs, 40) on/off rows."""
        return 1.2 + x @ self.effects + np.einsum("ri,ij,rj->r", x, self.pairs, x, optimize=True)


NAMES = [f"technique_{k:02d}" for k in range(COUNT)]


def runs_of(world: World, combinations: list[design.Combination], seed: int, seeds: int = 1) -> pd.DataFrame:
    """What a table of these runs would look like: a row per combination and seed, noise independent."""
    x = np.array([[name in c for name in NAMES] for c in combinations for _ in range(seeds)])
    noise = np.random.default_rng(seed).normal(0, NOISE, len(x))
    table = pd.DataFrame(x, columns=NAMES)
    return table.assign(bpb=world.score(x.astype(float)) + noise)


def measure(make: Callable[[World, int], pd.DataFrame], worlds: int) -> dict[str, float]:
    """Mean over worlds of what a design with the shipped analysis achieves."""
    error, gap, covered, widths = [], [], [], []
    seen, worth, false, called, null_hits, nulls = 0, 0, [], 0, 0, 0
    runs = 0
    for number in range(worlds):
        world = World.draw(number)
        runs_table = make(world, number)
        runs = len(runs_table)
        table = contribution(runs_table).set_index("technique").loc[NAMES]
        truth = world.average_effects()
        found = (table["q_bh"] <= 0.05).to_numpy()
        error.append((table["delta_bpb"] - truth).to_numpy())
        gap.append(pd.Series(truth).corr(pd.Series(table["delta_bpb"].to_numpy()), method="spearman"))
        covered.append(((table["low"] <= truth) & (table["high"] >= truth)).to_numpy())
        widths.append((table["high"] - table["low"]).mean() / 2)
        large = np.abs(truth) >= WORTH_SEEING
        seen, worth = seen + int((found & large).sum()), worth + int(large.sum())
        false.append((found & (truth == 0)).sum() / max(found.sum(), 1))
        called += int(found.sum())
        null_hits, nulls = null_hits + int((table["p"][truth == 0] < 0.05).sum()), nulls + int((truth == 0).sum())
    flat = np.concatenate(error)
    return {
        "runs": runs,
        "worlds": worlds,
        "rmse": float(np.sqrt(np.mean(flat**2))),
        "power": seen / worth,
        "fdr": float(np.mean(false)),
        "fdr_se": float(np.std(false) / np.sqrt(worlds)),
        "coverage": float(np.mean(covered)),
        "coverage_se": float(np.std([c.mean() for c in covered]) / np.sqrt(worlds)),
        "null_rate": null_hits / nulls,
        "half_width": float(np.mean(widths)),
        "spearman": float(np.mean(gap)),
    }


def folded(world: World, number: int) -> pd.DataFrame:
    """Folded Plackett-Burman, 88 runs."""
    return runs_of(world, design.folded_plackett_burman(NAMES), number)


def left_out(world: World, number: int) -> pd.DataFrame:
    """Leave-one-out with three seeds, 123 runs."""
    return runs_of(world, design.leave_one_out(NAMES), number, seeds=3)


def optimal(world: World, number: int) -> pd.DataFrame:
    """D-optimal, 88 runs, under a limit that 30 % of all combinations meet."""
    cost = dict(zip(NAMES, world.cost, strict=True))
    chosen = design.d_optimal(NAMES, 88, lambda c: sum(cost[n] for n in c) <= world.limit, seed=number, starts=1)
    return runs_of(world, chosen, number)


DESIGNS = {"folded_plackett_burman": folded, "leave_one_out": left_out, "d_optimal": optimal}


def main() -> None:
    parser = argparse.ArgumentParser(description="Recovery of planted effects by design.")
    parser.add_argument("--quick", action="store_true", help="fewer worlds: under a minute")
    parser.add_argument("--worlds", type=int, default=None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    worlds = asked.worlds or (25 if asked.quick else 200)
    out = {}
    for name, make in DESIGNS.items():
        started = time.perf_counter()
        out[name] = measure(make, worlds)
        print(f"{name}: {worlds} worlds in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    if asked.json:
        print(json.dumps(out))
    else:
        print(pd.DataFrame(out).T.to_string(float_format=lambda v: f"{v:.5g}"))


if __name__ == "__main__":
    main()
