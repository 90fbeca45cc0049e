"""How often does `contribution` call something real that is not? Every design of `golflab ablate`, in four kinds of worlds.

*null*: no technique does anything. *additive*: every third technique is worth three times the noise of a run, the others
nothing.
*interacting*: as additive, and as many pairs as there are techniques add or take away twice that noise.
*uneven*: null, but runs scatter four times as much where the first technique is switched. The intervals whose cover is told are
then its own.

What is to be recovered is what the design asks: the effect averaged over the others for a screen and for pairs, the effect with
the others on for leave-one-out, with the others off for add-one-in.

    python -m benchmarks.error_rates --worlds 400
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from golflab.analysis.effects.contribution import contribution
from golflab.search.design import matrices

NOISE = 0.001
EFFECT, PAIR = 3 * NOISE, 2 * NOISE
WORLDS = ("null", "additive", "interacting", "uneven")


class Design(NamedTuple):
    """Combinations for so many techniques, seeds of each, and the share of the other techniques that are on where it asks."""

    name: str
    make: Callable[[Sequence[str], int], list[frozenset[str]]]
    seeds: int
    others_on: float


def half_fit(names: Sequence[str], seed: int) -> list[frozenset[str]]:
    """A D-optimal design over the combinations that a byte limit leaves: about half of them."""
    bytes_ = dict(zip(names, np.random.default_rng(seed).gamma(1.0, 1.0, len(names)), strict=True))
    limit = sum(bytes_.values()) / 2
    runs = 4 * -(-(len(names) + 1) // 2)
    return matrices.d_optimal(names, runs, lambda on: sum(bytes_[n] for n in on) <= limit, seed=seed, starts=1)


DESIGNS = (
    Design("screen", lambda names, seed: matrices.folded_plackett_burman(names), 1, 0.5),
    Design("screen, half fits", half_fit, 1, 0.5),
    Design("leave-one-out", lambda names, seed: matrices.leave_one_out(names), 3, 1.0),
    Design("add-one-in", lambda names, seed: matrices.add_one_in(names), 3, 0.0),
    Design("pairs", lambda names, seed: matrices.all_pairs(names), 3, 0.5),
)


def world(kind: str, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Effects (count,) and pairs (count, count), upper triangle, in 0/1 coding."""
    effects, pairs = np.zeros(count), np.zeros((count, count))
    if kind in ("additive", "interacting"):
        effects[::3] = EFFECT * generator.choice([-1, 1], len(effects[::3]))
    if kind == "interacting":
        options = list(itertools.combinations(range(count), 2))
        for k in generator.choice(len(options), min(count, len(options)), replace=False):
            pairs[options[k]] = PAIR * generator.choice([-1, 1])
    return effects, pairs


def rates(design: Design, kind: str, count: int, worlds: int, first: int = 0) -> dict[str, Any]:
    """Error rates over some worlds: one row of the table."""
    names = [f"technique_{k:02d}" for k in range(count)]
    any_wrong, wrong, nulls, covered, power, runs, widths = 0, 0, 0, [], [], 0, []
    for seed in range(first, first + worlds):
        generator = np.random.default_rng(seed)
        combinations = [c for c in design.make(names, seed) for _ in range(design.seeds)]
        on = np.array([[name in c for name in names] for c in combinations])
        effects, pairs = world(kind, count, generator)
        x = on.astype(float)
        odd = (kind == "uneven") & (on[:, 0] == (design.others_on < 0.5))
        score = (
            2 + x @ effects + np.einsum("ri,ij,rj->r", x, pairs, x) + generator.normal(0, NOISE, len(x)) * np.where(odd, 4, 1)
        )
        found = contribution(pd.DataFrame(on, columns=names).assign(bpb=score)).set_index("technique").loc[names]
        truth = effects + design.others_on * (pairs.sum(axis=0) + pairs.sum(axis=1))
        null = truth == 0
        any_wrong += bool((found["p_holm"][null] < 0.05).any())
        wrong, nulls = wrong + int((found["p"][null] < 0.05).sum()), nulls + int(null.sum())
        inside = (found["low"] <= truth) & (found["high"] >= truth)
        covered.append(float(inside.iloc[0]) if kind == "uneven" else inside.mean())
        power.append((found["p_holm"][~null] < 0.05).mean() if (~null).any() else np.nan)
        widths.append(float((found["high"] - found["low"]).mean() / 2 / NOISE))
        runs = len(x)
    share = any_wrong / worlds
    return {
        "design": design.name,
        "techniques": count,
        "runs": runs,
        "world": kind,
        "family": share,
        "family_se": max(share * (1 - share), 1 / worlds) ** 0.5 / worlds**0.5,
        "single": wrong / max(nulls, 1),
        "covered": float(np.mean(covered)),
        "covered_se": float(np.std(covered)) / worlds**0.5,
        "half_width": float(np.median(widths)),
        "power": float(np.nanmean(power)) if kind in ("additive", "interacting") else np.nan,
    }


HEAD = (
    "| design | techniques | runs | world | any null called real (p_holm < 0.05) | a null at p < 0.05 | 95 % intervals cover "
    "| half width / noise | real ones found |\n|---|---:|---:|---|---:|---:|---:|---:|---:|"
)


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    found = "" if np.isnan(row["power"]) else f"{row['power']:.0%}"
    return (
        f"| {row['design']} | {row['techniques']} | {row['runs']} | {row['world']} | {100 * row['family']:.1f} ± "
        f"{100 * row['family_se']:.1f} % | {100 * row['single']:.1f} % | {100 * row['covered']:.1f} ± "
        f"{100 * row['covered_se']:.1f} % | {row['half_width']:.2f} | {found} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=400)
    parser.add_argument("--techniques", type=int, nargs="+", default=[7, 11, 17])
    options = parser.parse_args()
    print(HEAD)
    for design, count, kind in itertools.product(DESIGNS, options.techniques, WORLDS):
        if design.name != "pairs" or count <= 7:  # more would be hundreds of runs
            print(line(rates(design, kind, count, options.worlds)), flush=True)


if __name__ == "__main__":
    main()
