"""Presets: named recipes, each derived from another one in Python, at the challenge's scale and at four smaller ones.

``preset("baseline", "proxy")`` is what a search on a laptop varies around. What a scale is: `golflab.spaces.scales`.
"""

from __future__ import annotations

from golflab.model.recipe import Recipe
from golflab.model.system.wording import did_you_mean
from golflab.model.technique import parse
from golflab.spaces.records import records
from golflab.spaces.scales import FULL_LIMIT, FULL_SCHEDULE, FULL_SHAPE, at_scale
from golflab.spaces.seeds import seeds

BASELINE = Recipe(
    shape=FULL_SHAPE,
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
    """Return the preset called ``name`` at ``scale`` (one of `golflab.spaces.scales.SCALES`).

    Raises:
        ValueError: there is no such preset or scale; the message proposes the nearest name.
    """
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS)
        raise ValueError(f"There is no preset called {name!r}.{hint} Presets: {', '.join(PRESETS)}.")
    return at_scale(PRESETS[name], scale)
