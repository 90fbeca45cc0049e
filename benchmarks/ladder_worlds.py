"""Does the ladder's prediction at full scale hold what it promises? Planted scale laws, measured with noise.

A world has techniques whose effect follows a law over the whole way from the smallest rung to full scale. The rungs of a ladder
are measured with seeds, all techniques against the same runs of the baseline, and `golflab.analysis.ladder` predicts full
scale. Printed per family of laws: the share of 90 % prediction intervals that hold the truth, the rate of each verdict, and how
often "flips" and "persists" were said where they are false.

    python -m benchmarks.ladder_worlds --worlds 40
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
import pandas as pd

from golflab.analysis.ladder.forecast import FULL_PARAMETERS, FULL_TOKENS_PER_PARAMETER, VERDICTS, fit, predict

SCALES = {"nano": 45e3, "micro": 180e3, "proxy": 750e3}
DURATIONS = (5.0, 20.0, 80.0)
# What was run: all durations at nano, two at micro, one at proxy; seeds on each.
RUNGS = (
    ("nano", 5.0, 6),
    ("nano", 20.0, 6),
    ("nano", 80.0, 4),
    ("micro", 5.0, 4),
    ("micro", 20.0, 3),
    ("proxy", 5.0, 2),
    ("proxy", 20.0, 2),
)
ARM_SD = 0.007  # of one run at nano after 5 tokens a parameter; a paired difference has √2 of it
NOTHING = 0.0005  # a true effect smaller than this is none

# A law: share of the whole way, in log tokens per parameter (u) and log parameters (v), both from 0 at the smallest rung to 1
# at full scale -> effect, in units of the technique's size.
Law = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _constant(rng: np.random.Generator) -> Law:
    return lambda u, v: np.ones_like(u)


def _linear(rng: np.random.Generator) -> Law:
    """Fades with the logarithms, to between 0 and 60 % of itself."""
    share, left = rng.uniform(0, 1), rng.uniform(0, 0.6)
    return lambda u, v: 1 - (1 - left) * (share * u + (1 - share) * v)


def _flip(rng: np.random.Generator) -> Law:
    """Changes sign on the way: at full scale it has the other sign and 20 to 100 % of its size."""
    share, end = rng.uniform(0, 1), rng.uniform(0.2, 1.0)
    return lambda u, v: 1 - (1 + end) * (share * u + (1 - share) * v)


def _saturating(rng: np.random.Generator) -> Law:
    """Falls (or rises) fast at first and levels out: an exponential approach to what is left."""
    share, left, rate = rng.uniform(0, 1), rng.uniform(0.2, 1.6), rng.uniform(2, 6)
    return lambda u, v: left + (1 - left) * np.exp(-rate * (share * u + (1 - share) * v))


def _power(rng: np.random.Generator) -> Law:
    """A power law in tokens and parameters that goes to nothing and never turns."""
    a, b = rng.uniform(0.2, 2.0, 2)
    return lambda u, v: np.exp(-a * u - b * v)


def _null(rng: np.random.Generator) -> Law:
    return lambda u, v: np.zeros_like(u)


FAMILIES = {
    "constant": _constant,
    "log-linear fading": _linear,
    "flip": _flip,
    "saturating": _saturating,
    "power law": _power,
    "null": _null,
}


def world(family: str, techniques: int, rng: np.random.Generator, wobble: float = 0.001) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measured differences and the truth at full scale.

    Args:
        family: one of `FAMILIES`, or ``mixed``: each technique draws one.
        techniques: how many.
        rng: draws the world and its noise.
        wobble: standard deviation of what a technique has on one rung alone, bits per byte.

    Returns:
        the differences; the truth: technique, family, true (at full scale, its own deviation in it), middle.
    """
    low = np.log([min(DURATIONS), SCALES["nano"]])
    way = np.log([FULL_TOKENS_PER_PARAMETER, FULL_PARAMETERS]) - low
    points = np.array([[np.log(d), np.log(SCALES[s])] for s, d, _ in RUNGS])
    u, v = np.vstack([(points - low) / way, [1.0, 1.0], ((points - low) / way).mean(axis=0)]).T
    effects, truth = [], []
    for k in range(techniques):
        name = family if family != "mixed" else str(rng.choice(list(FAMILIES)))
        size = rng.choice([-1, -1, 1]) * np.exp(rng.uniform(np.log(0.003), np.log(0.05)))
        sizes = size * FAMILIES[name](rng)(u, v)
        here = sizes + (rng.normal(0, wobble, len(u)) if name != "null" else 0.0)
        effects.append(here[:-2])
        truth.append({"technique": f"t{k:02d}", "family": name, "true": float(here[-2]), "middle": float(sizes[-1])})
    return _measured(np.array(effects), rng), pd.DataFrame(truth)


def _measured(effects: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Paired differences of (techniques, rungs) true effects: every technique against the same baseline runs of its rung."""
    rows = []
    for r, (scale, duration, seeds) in enumerate(RUNGS):
        sd = ARM_SD * (duration / 5) ** -0.2 * (SCALES[scale] / SCALES["nano"]) ** -0.1
        base = rng.normal(0, sd, seeds)
        for k in range(len(effects)):
            paired = effects[k, r] + rng.normal(0, sd, seeds) - base
            rows.append((f"t{k:02d}", scale, SCALES[scale], duration, paired.mean(), paired.std(ddof=1) / seeds**0.5, seeds))
    columns = ["technique", "scale", "parameters", "tokens_per_parameter", "delta_bpb", "se", "replicates"]
    return pd.DataFrame(rows, columns=columns)


def study(family: str, worlds: int, techniques: int = 12, seed: int = 0, draws: int = 200) -> pd.DataFrame:
    """A row per technique and world: what was predicted, and what is true."""
    out = []
    for number in range(worlds):
        rng = np.random.default_rng([seed, number, *family.encode()])
        measured, truth = world(family, techniques, rng)
        told = predict(fit(measured, draws=draws, seed=number)).merge(truth, on="technique")
        out.append(told.assign(world=number))
    return pd.concat(out, ignore_index=True)


def rates(told: pd.DataFrame) -> dict[str, float]:
    """Coverage with its error over worlds, the rate of every verdict, and how many of those given are false."""
    held = (told["low"] <= told["true"]) & (told["true"] <= told["high"])
    by_world = held.groupby(told["world"]).mean()
    here, there = told["middle"], told["true"]
    none = (here.abs() < NOTHING) | (there.abs() < NOTHING)
    turned = ~none & (np.sign(here) != np.sign(there))
    kept = ~none & (np.sign(here) == np.sign(there))
    said = told["verdict"]
    out = {"techniques": float(len(told)), "coverage": float(held.mean())}
    out["coverage_se"] = float(by_world.std() / np.sqrt(len(by_world)))
    out["half_width"] = float(((told["high"] - told["low"]) / 2).median())
    out |= {name: float((said == name).mean()) for name in VERDICTS}
    out["false flips"] = float(((said == "flips") & ~turned).mean())
    out["false persists"] = float((said.isin(["persists", "grows"]) & ~kept).mean())
    out["error"] = float((told["delta_full"] - there).abs().mean())
    out["error of smallest"] = float((told["smallest"] - there).abs().mean())
    out["error of largest"] = float((told["largest"] - there).abs().mean())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=40, help="of each family")
    parser.add_argument("--seed", type=int, default=0, help="of the worlds: another seed draws other worlds")
    parser.add_argument("--techniques", type=int, default=12)
    parser.add_argument("--family", nargs="*", choices=[*FAMILIES, "mixed"], default=["mixed", *FAMILIES])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    table = {}
    for name in given.family:
        told = study(name, given.worlds, given.techniques, given.seed)
        table[name] = rates(told)
        if name == "mixed":
            table |= {f"mixed: {kind}": rates(rows) for kind, rows in told.groupby("family")}
    if given.json:
        print(json.dumps(table, indent=1))
    else:
        print(pd.DataFrame(table).T.to_string(float_format=lambda x: f"{x:.4f}"))


if __name__ == "__main__":
    main()
