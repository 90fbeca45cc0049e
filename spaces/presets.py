"""Presets: named recipes, each derived from another one in Python, at the challenge's scale and at a proxy's.

``preset("baseline", "proxy")`` is what a search on a laptop varies around. A proxy keeps a preset's proportions (depth,
MLP width, KV heads against the baseline's) in a body that trains on one CPU core in under a minute.
"""

from __future__ import annotations

import dataclasses
import difflib

from model.recipe import Recipe, Schedule, Shape
from model.technique import parse
from spaces.seeds import seeds

SCALES = ("proxy", "full")

# The challenge: ten minutes on its machine, batches of 524,288 tokens, 16,000,000 decimal bytes.
FULL_SCHEDULE = Schedule(tokens=None, seconds=600.0, batch_tokens=524_288, micro_tokens=65_536)
FULL_LIMIT = 16_000_000

# The proxy: 128 steps of 4,096 tokens, about 50 seconds on one core.
PROXY_SHAPE = Shape(layers=5, width=128, heads=4, kv_heads=2, hidden=256, vocabulary=1024, context=256)
PROXY_SCHEDULE = Schedule(tokens=524_288, batch_tokens=4_096, micro_tokens=4_096)
# Binds about as often as 16,000,000 does at full scale: benchmarks/proxy_limit.py measures it.
PROXY_LIMIT = 730_000

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

PRESETS: dict[str, Recipe] = {"baseline": BASELINE, **seeds(BASELINE)}


def preset(name: str, scale: str = "proxy") -> Recipe:
    """Return the preset called ``name`` at ``scale`` (``proxy`` or ``full``).

    Raises:
        ValueError: there is no such preset or scale; the message proposes the nearest name.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no preset called {name!r}.{hint} Presets: {', '.join(PRESETS)}.")
    return at_scale(PRESETS[name], scale)


def at_scale(recipe: Recipe, scale: str) -> Recipe:
    """Return a full-scale ``recipe`` as it is, or its proxy: same techniques and proportions in a small body.

    Raises:
        ValueError: the scale is neither ``proxy`` nor ``full``.
    """
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r} must be one of {', '.join(SCALES)}.")
    if scale == "full":
        return recipe
    shape = _proxy_shape(recipe.shape)
    techniques = tuple(t.rescale(recipe.shape, shape) for t in recipe.techniques)
    return dataclasses.replace(recipe, shape=shape, schedule=PROXY_SCHEDULE, techniques=techniques, limit=PROXY_LIMIT)


def _proxy_shape(shape: Shape) -> Shape:
    """The proxy body with ``shape``'s proportions to the baseline's: depth, MLP width, KV heads, vocabulary."""
    full, small = BASELINE.shape, PROXY_SHAPE
    return dataclasses.replace(
        shape,
        layers=round(shape.layers * small.layers / full.layers),
        width=small.width,
        heads=small.heads,
        kv_heads=max(1, small.heads * shape.kv_heads // shape.heads),
        hidden=round(shape.hidden / shape.width * small.width),
        vocabulary=shape.vocabulary if shape.vocabulary <= small.vocabulary else max(small.vocabulary, shape.vocabulary // 4),
        context=small.context,
    )
