"""A recipe in a few words: what differs from another one."""

from __future__ import annotations

from golflab.model.recipe import Recipe
from golflab.model.technique import Technique


def short(recipe: Recipe, preset: Recipe) -> str:
    """A recipe as its differences to the preset: ``+int5_rows:group=64 -int6_rows xsa:last=2 layers=6``."""
    mine, theirs = {t.name: t for t in recipe.techniques}, {t.name: t for t in preset.techniques}
    words = [f"+{t}" for name, t in mine.items() if name not in theirs]
    words += [f"-{name}" for name in theirs if name not in mine]
    words += [str(t) for name, t in mine.items() if name in theirs and t != theirs[name]]
    return " ".join([*words, *_shapes(recipe, preset)]) or "(the preset)"


def against(recipe: Recipe, best: Recipe) -> str:
    """What a recipe has and the best one has not: techniques, knobs (``ema.decay=0.997``), shape and seed."""
    mine, theirs = {t.name: t for t in recipe.techniques}, {t.name: t for t in best.techniques}
    words = [f"+{t}" for name, t in mine.items() if name not in theirs]
    words += [f"-{name}" for name in theirs if name not in mine]
    words += [word for name, t in mine.items() if name in theirs for word in _knobs(t, theirs[name])]
    words += _shapes(recipe, best)
    words += [f"seed={recipe.seed}"] if recipe.seed != best.seed else []
    return " ".join(words) or "(the same)"


def _knobs(mine: Technique, other: Technique) -> list[str]:
    before = other.settings()
    return [f"{mine.name}.{knob}={_number(value)}" for knob, value in mine.settings().items() if value != before.get(knob)]


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _shapes(recipe: Recipe, other: Recipe) -> list[str]:
    return [f"{key}={value}" for key, value in sorted(vars(recipe.shape).items() - vars(other.shape).items())]
