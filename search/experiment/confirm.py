"""Confirmation: the best recipe of a search and the preset are run again on fresh seeds and scored on the test part."""

from __future__ import annotations

import dataclasses

from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.search.experiment.options import Options

FIRST_SEED = 1000  # no trial of a search has this seed or a larger one
FOUND = "found"  # name of the best recipe in the confirmation; `golflab.analysis.comparison.confirmed` reads it


def confirmation(options: Options, best: Record) -> tuple[Options, list[Recipe]]:
    """The experiment that confirms the best recipe of a search: its options, and its recipes.

    It lies in the search's folder and shares its stage cache. So the preset is not trained again when a longer search finds
    another best recipe. With another seed the artifact has more or fewer bytes. The report shows by how much; it must not stop
    a run, so the byte limit is doubled here.

    Args:
        options: of the search.
        best: record of the best recipe.
    """
    preset, found = options.recipe(), Recipe.from_json(best.spec)
    room = 2 * preset.limit
    arms = found.with_(name=FOUND), preset
    first = FIRST_SEED + preset.seed
    seeds = range(first, first + options.confirm)
    plan = [arm.with_(seed=seed, split="test", limit=room) for seed in seeds for arm in arms]
    inside = dataclasses.replace(
        options,
        name=f"confirm-{best.recipe}",
        runs=str(options.folder),
        design="confirm",
        trials=len(plan),
        limit=room,
        storage=None,
        confirm=0,
        finish=(),
        variants=0,
        halving=None,
        pruner="none",
        budget="",
    )
    return inside, plan
