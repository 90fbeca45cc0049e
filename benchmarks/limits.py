"""Byte limits of the small scales, by preset, so that they bind as 16,000,000 bytes do at full scale: `spaces/limits.py`.

A preset's forecast of its packed weights is to a small scale's limit as it is to the challenge's. The script counts by the same
share (`golflab.model.recipe.counted_code`), so a preset fits at every scale if it fits at full scale. Run it when a preset is
added or a forecast changes:

    python -m benchmarks.limits            # prints what spaces/limits.py should hold
    python -m benchmarks.limits --space starter --draws 400     # how often random combinations are over the limits
"""

from __future__ import annotations

import argparse
import random

import numpy as np

from golflab.model.compression.forecast import forecast, inventory
from golflab.model.recipe import Recipe
from golflab.search.ledger.forecast import Forecaster
from golflab.spaces.catalogue import space
from golflab.spaces.presets import PRESETS, preset
from golflab.spaces.scales import SCALES

DIGITS = 3


def weights(recipe: Recipe) -> int:
    """Forecast of the packed weights alone, in bytes."""
    return forecast(inventory(recipe), recipe, 0).mid


def limit(name: str, scale: str) -> int:
    """What the limit of a preset at a small scale should be, to `DIGITS` digits."""
    full = preset(name, "full")
    exact = full.limit * weights(preset(name, scale)) / weights(full)
    return int(float(f"{exact:.{DIGITS - 1}e}"))


def table() -> dict[str, dict[str, int]]:
    """Of every preset and every scale but the last, which is the challenge's own."""
    return {name: {scale: limit(name, scale) for scale in list(SCALES)[:-1]} for name in PRESETS}


def over(name: str, space_name: str, draws: int) -> None:
    """Print how many random combinations of a space are over the limit at every scale."""
    forecaster = Forecaster()
    for scale in SCALES:
        around = space(space_name, preset(name, scale))
        rng = random.Random(0)
        sizes = np.array([forecaster(around.recipe(around.random(rng)))["mid"] for _ in range(draws)])
        share = np.mean(sizes > around.preset.limit)
        print(f"{scale}: limit {around.preset.limit:,}, median {np.median(sizes):,.0f}, {share:.0%} are over it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", help="instead: draw combinations of this space around a preset")
    parser.add_argument("--preset", default="baseline")
    parser.add_argument("--draws", type=int, default=400)
    options = parser.parse_args()
    if options.space:
        over(options.preset, options.space, options.draws)
        return
    for name, by_scale in table().items():
        print(f'    "{name}": {{{", ".join(f"{chr(34)}{s}{chr(34)}: {n:_}" for s, n in by_scale.items())}}},')


if __name__ == "__main__":
    main()
