"""Which byte limit binds at proxy scale as often as 16,000,000 does at full scale? Forecasts over random combinations.

python -m benchmarks.proxy_limit --space starter --draws 400
"""

import argparse
import random

import numpy as np

from golflab.search.ledger.forecast import Forecaster
from golflab.spaces.catalogue import space
from golflab.spaces.presets import preset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="baseline")
    parser.add_argument("--space", default="starter")
    parser.add_argument("--draws", type=int, default=400)
    options = parser.parse_args()
    forecaster, sizes = Forecaster(), {}
    for scale in ("full", "proxy"):
        around = space(options.space, preset(options.preset, scale))
        rng = random.Random(0)
        sizes[scale] = np.array([forecaster(around.recipe(around.random(rng)))["mid"] for _ in range(options.draws)])
        over = np.mean(sizes[scale] > around.preset.limit)
        limit, middle = around.preset.limit, np.median(sizes[scale])
        print(f"{scale}: limit {limit:,}, median {middle:,.0f}, {over:.0%} are over it")
    share = np.mean(sizes["full"] <= preset(options.preset, "full").limit)
    print(f"a proxy limit of {np.quantile(sizes['proxy'], share):,.0f} would bind as often")


if __name__ == "__main__":
    main()
