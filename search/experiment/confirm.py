"""Is the best found really better than the preset? Both are run again, on fresh seeds, and scored on the test part."""

from __future__ import annotations

import dataclasses

from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.search.experiment.options import Options

FIRST_SEED = 1000  # of the seeds that no trial has
FOUND = "found"  # the label of the best found; `golflab.analysis.comparison.confirmed` looks for it


def confirmation(options: Options, best: Record) -> tuple[Options, list[Recipe]]:
    """The experiment that confirms a search's best: its options, and its recipes.

    It lies inside the search's folder and shares its stage cache: a preset that was confirmed before is not trained again
    when a longer search finds another best. Another seed packs into more or fewer bytes. That is to be seen and stops no run,
    so the byte limit is doubled here.

    Args:
        options: of the search.
        best: the record of the best it found.
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
