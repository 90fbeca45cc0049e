"""Which body and length tells most per minute? ``python -m benchmarks.first_bodies``: four minutes of a core a body.

The same folded Plackett-Burman design of seven techniques in 16 runs is run in several small bodies. For each: the standard
deviation of one run, the effects, how many of them are called at 5 % false discovery, and calls per minute of processor time.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from pathlib import Path
from typing import Any

import torch

from golflab.analysis.effects.contribution import contribution
from golflab.analysis.table import load
from golflab.model.recipe import Recipe
from golflab.model.run import run
from golflab.model.technique import find
from golflab.search.design.matrices import folded_plackett_burman
from golflab.spaces.catalogue import FIRST
from golflab.spaces.presets import BASELINE, preset

NAMES = FIRST[:7]
WIDE = {"layers": 4, "width": 64, "heads": 4, "kv_heads": 2, "hidden": 128}
# Scale and what is changed in it.
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "nano, 100 steps": ("nano", {"tokens": 204_800}),
    "nano, 144 steps": ("nano", {}),
    "nano, 200 steps": ("nano", {"tokens": 409_600}),
    "width 64, 100 steps": ("nano", WIDE | {"tokens": 204_800}),
    "proxy, 40 steps": ("proxy", {"tokens": 163_840}),
}


def seconds() -> float:
    """Processor time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(body: str, cache: Path, folder: Path) -> None:
    """Run the design in a body and print what it tells."""
    scale, changes = BODIES[body]
    base = preset("baseline", scale).with_(**changes, limit=10**8)
    techniques = {name: find(name)().rescale(BASELINE.shape, base.shape) for name in NAMES}
    recipes: list[Recipe] = [base.with_(*(techniques[n] for n in on)) for on in folded_plackett_burman(NAMES)]
    began = seconds()
    for recipe in recipes:
        run(recipe, folder / "trials" / recipe.hash, cache, device="cpu", rungs=False, float_score=False)
    spent = seconds() - began
    effects = contribution(load(folder))
    called = int((effects["q_bh"] <= 0.05).sum())
    pace = f"{spent / len(recipes):.1f} s a run, {60 * called / spent:.2f} calls a minute"
    print(f"\n{body}: one run's sd {effects.attrs['sigma']:.4f}, {called} of {len(NAMES)} called, {pace}")
    print(effects[["technique", "delta_bpb", "se", "q_bh"]].to_string(index=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--body", nargs="*", choices=list(BODIES), default=list(BODIES))
    parser.add_argument("--cache", type=Path, default=None, help="folder of prepared text; a temporary one by default")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for number, body in enumerate(given.body):
            measure(body, given.cache or Path(scratch) / "cache", Path(scratch) / str(number))


if __name__ == "__main__":
    main()
