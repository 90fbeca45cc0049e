"""An ablation from Python: planned and run by one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golflab.model.technique import Technique
from golflab.search.design.ablate import plan
from golflab.search.experiment.checks import free_name
from golflab.search.experiment.drive import Result
from golflab.search.experiment.options import Options
from golflab.search.experiment.start import run_plan


def ablate(
    preset: str = "baseline",
    design: str = "screen",
    *,
    techniques: Sequence[str | Technique] = (),
    seeds: int = 1,
    iso_size: bool = False,
    watcher: Any = None,
    **options: Any,
) -> Result:
    """Plan an ablation of a preset and run it.

    Args:
        preset: its name.
        design: leave-one-out, add-one-in, pairs or screen: see `golflab.search.design.ablate.plan`.
        techniques: those that vary; by default all that the preset has on.
        seeds: runs of every combination, with the same seeds in all of them.
        iso_size: widen the MLP by the bytes that a removed technique frees.
        watcher: a `golflab.search.engine.searcher.Watcher` that is called for every event.
        **options: other fields of `golflab.search.experiment.options.Options`, as ``scale``, ``tokens``, ``name`` and ``runs``.
            The byte limit holds only if ``limit`` is given.

    Raises:
        ValueError: an unknown design or technique, nothing to vary, or an invalid option.
    """
    binding = options.get("limit") is not None
    recipe = Options(**options | {"preset": preset}).recipe()
    made = plan(recipe, design, techniques=techniques, seeds=seeds, iso_size=iso_size, binding=binding)
    settings = options | {"preset": preset, "design": made.design, "iso_size": iso_size, "binding": binding}
    settings.setdefault("name", free_name(Path(settings.get("runs", "runs")), f"{preset}-{made.design}"))
    return run_plan(made.recipes, watcher, **settings)
