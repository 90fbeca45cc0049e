"""Presets: named recipes, each derived from another one in Python, at the challenge's scale and at two smaller ones.

``preset("baseline", "proxy")`` is the usual start of a search on a laptop. A smaller scale keeps a preset's proportions (depth,
MLP width and KV heads, relative to the baseline) in a small shape that trains on one CPU core: ``proxy`` in about a minute,
``nano`` in about ten seconds.
"""

from __future__ import annotations

import dataclasses
import difflib

from golflab.model.recipe import Recipe
from golflab.model.shape import Schedule, Shape
from golflab.model.technique import parse
from golflab.spaces.records import records
from golflab.spaces.seeds import seeds

SCALES = ("nano", "proxy", "full")

# The challenge: ten minutes on its machine, batches of 524,288 tokens, 16,000,000 decimal bytes.
FULL_SCHEDULE = Schedule(tokens=None, seconds=600.0, batch_tokens=524_288, micro_tokens=65_536)
FULL_LIMIT = 16_000_000

# The proxy: 128 steps of 4,096 tokens, about 50 seconds on one core.
PROXY_SHAPE = Shape(layers=5, width=128, heads=4, kv_heads=2, hidden=256, vocabulary=1024, context=256)
PROXY_SCHEDULE = Schedule(tokens=524_288, batch_tokens=4_096, micro_tokens=4_096)
# Binds about as often as 16,000,000 does at full scale: benchmarks/proxy_limit.py measures it.
PROXY_LIMIT = 730_000

# The body of a first search: 45,000 parameters, 144 steps of 2,048 tokens (6.5 tokens a parameter). Four bodies were
# measured: docs/first_search.md.
NANO_SHAPE = Shape(layers=4, width=32, heads=2, kv_heads=1, hidden=64, vocabulary=512, context=128)
NANO_SCHEDULE = Schedule(tokens=294_912, batch_tokens=2_048, micro_tokens=2_048)
NANO_LIMIT = 102_000

_SMALL = {"nano": (NANO_SHAPE, NANO_SCHEDULE, NANO_LIMIT), "proxy": (PROXY_SHAPE, PROXY_SCHEDULE, PROXY_LIMIT)}

BASELINE = Recipe(
    shape=Shape(layers=9, width=512, heads=8, kv_heads=4, hidden=1024, vocabulary=1024, context=1024),
    schedule=FULL_SCHEDULE,
    techniques=tuple(
        parse(text)
        for text in ("unet_skips", "resid_mix", "qk_norm", "q_gain", "softcap", "branch_scale", "row_bytes", "zlib_codec")
    ),
    limit=FULL_LIMIT,
    name="baseline",
)

PRESETS: dict[str, Recipe] = {"baseline": BASELINE, **seeds(BASELINE), **records(BASELINE)}


def preset(name: str, scale: str = "proxy") -> Recipe:
    """Return the preset called ``name`` at ``scale`` (one of `SCALES`).

    Raises:
        ValueError: there is no such preset or scale; the message proposes the nearest name.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no preset called {name!r}.{hint} Presets: {', '.join(PRESETS)}.")
    return at_scale(PRESETS[name], scale)


def at_scale(recipe: Recipe, scale: str) -> Recipe:
    """Return a full-scale ``recipe`` as it is, or a small one with the same techniques and proportions.

    Raises:
        ValueError: the scale is none of `SCALES`.
    """
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r} must be one of {', '.join(SCALES)}.")
    if scale == "full":
        return recipe
    body, schedule, limit = _SMALL[scale]
    shape = _shrunk(recipe.shape, body)
    techniques = tuple(t.rescale(recipe.shape, shape) for t in recipe.techniques)
    return dataclasses.replace(recipe, shape=shape, schedule=schedule, techniques=techniques, limit=limit)


def _shrunk(shape: Shape, small: Shape) -> Shape:
    """A small shape with the proportions of ``shape`` to the baseline's: depth, MLP width, KV heads, vocabulary."""
    full = BASELINE.shape
    vocabulary = shape.vocabulary * small.vocabulary // full.vocabulary
    return dataclasses.replace(
        shape,
        layers=round(shape.layers * small.layers / full.layers),
        width=small.width,
        heads=small.heads,
        kv_heads=max(1, small.heads * shape.kv_heads // shape.heads),
        hidden=round(shape.hidden / shape.width * small.width),
        vocabulary=vocabulary if vocabulary <= small.vocabulary else max(small.vocabulary, vocabulary // 4),
        context=small.context,
    )
