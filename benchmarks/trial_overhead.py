"""What a trial costs besides its training: runs that do nothing, through the real driver and real workers.

    python -m benchmarks.trial_overhead --trials 100

Prints the wall time from one finished trial to the next (two workers side by side), the driver's processor time for it, and
where the driver spends it.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import tempfile
import time
from pathlib import Path

import numpy as np

from golflab.model.recipe import Recipe
from golflab.model.record import Record


def nothing(recipe: Recipe, folder: Path, cache: Path, on_rung=None, **_) -> Record:
    """A run without a training: a record, three rungs, and done."""
    record = Record(recipe.hash, recipe.seed, recipe.name, "complete", recipe.to_json())
    for step in (1, 2, 3):
        if on_rung is not None:
            on_rung({"step": step, "progress": step / 4, "bpb": 2.0 + len(recipe.techniques) / 100, "bytes": 100_000})
    record.bpb = record.bpb_float = 2.0 + len(recipe.techniques) / 100
    record.bytes, record.code_bytes, record.seconds, record.tokens = 100_000, 10_000, 0.0, 1
    record.save(folder)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--space", default="starter")
    parser.add_argument("--profile", action="store_true", help="print where the driver spends its time")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    from golflab.search.engine.searcher import Watcher
    from golflab.search.experiment.start import search

    class Clock(Watcher):
        ends: list[tuple[float, float]] = []

        def finished(self, number: int, record: Record) -> None:
            self.ends.append((time.monotonic(), time.process_time()))

    clock, profile = Clock(), cProfile.Profile()
    with tempfile.TemporaryDirectory() as runs:
        if options.profile:
            profile.enable()
        search(
            clock,
            name="overhead",
            runs=runs,
            space=options.space,
            trials=options.trials,
            runner="benchmarks.trial_overhead:nothing",
        )
        profile.disable()
    wall, cpu = np.diff(np.array(clock.ends), axis=0).T
    print(f"{options.space}, trials {len(clock.ends)}: {1e3 * np.median(wall):.0f} ms from one end to the next (median),")
    first, last = (1e3 * np.mean(half) for half in np.array_split(cpu, 2))
    print(f"  {1e3 * np.mean(wall):.0f} ms mean; driver CPU {first:.0f} ms in the first half, {last:.0f} ms in the second")
    if options.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main()
