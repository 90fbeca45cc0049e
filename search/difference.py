"""A recipe in a few words: what differs from the preset."""

from __future__ import annotations

from model.recipe import Recipe


def short(recipe: Recipe, preset: Recipe) -> str:
    """A recipe as its differences to the preset: ``+xsa -unet_skips int6_rows->int5_rows layers=6``."""
    mine, theirs = {t.name: t for t in recipe.techniques}, {t.name: t for t in preset.techniques}
    words = [f"+{t}" for name, t in mine.items() if name not in theirs]
    words += [f"-{name}" for name in theirs if name not in mine]
    words += [str(t) for name, t in mine.items() if name in theirs and t != theirs[name]]
    shapes = vars(recipe.shape).items() - vars(preset.shape).items()
    return " ".join([*words, *(f"{key}={value}" for key, value in sorted(shapes))]) or "(the preset)"
