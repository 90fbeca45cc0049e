"""The contenders of the worked search: the five seeds at one byte limit, and the spaces that are searched.

See `benchmarks.worked_search`.
"""

from __future__ import annotations

import dataclasses
import functools

from benchmarks.as_recorded import root_of_steps
from golflab.model.compression.forecast import fit
from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS
from golflab.model.technique import find
from golflab.search.ledger.forecast import Forecaster
from golflab.spaces.catalogue import space
from golflab.spaces.presets import preset
from golflab.spaces.space import Space

SEEDS = ("seed_211", "seed_849", "seed_680", "seed_1499", "seed_295")
SCALE = "nano"
TOKENS = 524_288  # two to seven for each parameter
LIMIT = 94_000  # bytes, code's share included: what seed_1499, the largest of the five, is forecast to need at this scale
WIDTHS = (48, 64, 96, 128, 160, 192, 256, 320, 384, 512)  # of the MLP, among which a search may choose


def plain(recipe: Recipe) -> Recipe:
    """Without what acts at evaluation: scored in windows side by side, by weights that do not change."""
    return recipe.without(*(t.name for t in recipe.techniques if SLOTS[t.slot].stage == "evaluate"))


def sized(recipe: Recipe, forecaster: Forecaster | None = None) -> Recipe:
    """With the widest MLP that fits by the forecast; by one that finished runs have corrected, up to 1.5 % below the limit."""
    size, most = (Forecaster(), LIMIT) if forecaster is None else (forecaster, LIMIT * 0.985)
    return fit(recipe.with_(limit=LIMIT), int(most), lambda r: size(r)["mid"], multiple=2)


@functools.cache
def seed_preset(name: str) -> Recipe:
    """A seed submission at this scale, brought to the limit; momentum as a run of this length needs it."""
    return sized(root_of_steps(plain(preset(name, SCALE)).with_(tokens=TOKENS))).check()


def narrowed(recipe: Recipe) -> Recipe:
    """With the widest MLP of `WIDTHS` that is no wider than the recipe's."""
    return recipe.with_(hidden=max(width for width in WIDTHS if width <= recipe.shape.hidden))


def own_knobs(recipe: Recipe) -> Space:
    """A seed's own knobs: all of every technique it has, and nothing else."""
    return Space(
        recipe.name, recipe, knobs=tuple(f"{t.name}.*" for t in recipe.all_techniques() if t.knobs() and not _later(t.slot))
    )


def everything() -> Space:
    """All techniques of the five seeds, their knobs and shapes, without what acts at evaluation."""
    ready = space("seeds", seed_preset("seed_1499"))
    kept = tuple(t for t in ready.techniques if not _later(_slot(t)))
    knobs = tuple(k for k in ready._expanded_knobs() if not _later(_slot(k.partition(".")[0])))
    return dataclasses.replace(ready, techniques=kept, knobs=knobs, shape={**ready.shape, "hidden": WIDTHS})


def _slot(name: str) -> str:
    return find(name).slot


def _later(slot: str) -> bool:
    return SLOTS[slot].stage == "evaluate"
