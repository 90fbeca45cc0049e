"""What machines that score differently do to the effects of techniques, if runs are compared within machines and if not.

No technique does anything. The score of every machine is shifted by a draw with the standard deviation that pods showed (PR
#2117); runs of one machine scatter by half of it. Runs are handed out in the order of the design, so that the runs of one
combination share a machine (*ordered*), or each to any machine (*random*).

    python -m benchmarks.machines --worlds 250
"""

from __future__ import annotations

import argparse
import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd

from golflab.analysis.effects.contribution import contribution
from golflab.search.design import matrices

NAMES = [f"technique_{k}" for k in range(7)]
NOISE, BETWEEN = 0.0007, 0.0015
DESIGNS = {
    "screen": [c for c in matrices.folded_plackett_burman(NAMES) for _ in range(2)],
    "leave-one-out": [c for c in matrices.leave_one_out(NAMES) for _ in range(3)],
}


class Rates(NamedTuple):
    """Of effects that are none: how many are called real, how wide their intervals are, how many are refused."""

    single: float
    family: float
    half_width: float
    refused: float


def world(
    seed: int, design: str = "screen", order: str = "ordered", machines: int = 3, between: float = BETWEEN
) -> pd.DataFrame:
    """One table of runs without any effect."""
    generator = np.random.default_rng(seed)
    flags = np.array([[name in on for name in NAMES] for on in DESIGNS[design]])
    drawn = generator.integers(0, machines, len(flags))
    at = np.sort(drawn) if order == "ordered" else drawn
    table = pd.DataFrame(flags, columns=NAMES).assign(machine=[f"m{k}" for k in at])
    return table.assign(bpb=2 + generator.normal(0, between, machines)[at] + generator.normal(0, NOISE, len(flags)))


def rates(design: str, order: str, blocked: bool, worlds: int) -> Rates:
    """Error rates over some worlds, with machines as blocks or with their names removed."""
    single, family, widths, refused = [], [], [], []
    for seed in range(worlds):
        table = world(seed, design, order)
        found = contribution(table if blocked else table.drop(columns="machine"), interactions=False, outliers=False)
        known = found["p"].notna()
        single += list(found.loc[known, "p"] < 0.05)
        family.append(bool((found["p_holm"] < 0.05).any()))
        widths += list((found["high"] - found["low"])[known] / 2)
        refused.append(1 - known.mean())
    return Rates(float(np.mean(single)), float(np.mean(family)), float(np.median(widths)), float(np.mean(refused)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=250)
    options = parser.parse_args()
    print("| design | runs handed out | within machines | p < 0.05 | any p_holm < 0.05 | half width / noise | refused |")
    print("|---|---|---|---:|---:|---:|---:|")
    for design, order, blocked in itertools.product(DESIGNS, ("ordered", "random"), (True, False)):
        found = rates(design, order, blocked, options.worlds)
        print(
            f"| {design} | {order} | {'yes' if blocked else 'no'} | {found.single:.1%} | {found.family:.1%} | "
            f"{found.half_width / NOISE:.2f} | {found.refused:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
