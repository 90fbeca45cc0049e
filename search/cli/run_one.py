"""`golflab run`: one recipe, from the arguments of the command line to its record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.model.slots import SLOTS
from golflab.model.technique import find, parse
from golflab.spaces.presets import preset
from golflab.spaces.scales import of_length, paced, suited, without


def recipe_of(
    name: str,
    scale: str,
    on: Sequence[str] = (),
    off: Sequence[str] = (),
    *,
    duration: float | None = None,
    published_optimizer: bool = False,
    **changes: Any,
) -> Recipe:
    """A preset with techniques switched off and on, and fields changed (a field that is None stays).

    Args:
        name: of the preset.
        scale: one of `golflab.spaces.scales.SCALES`.
        on: techniques to switch on, as `golflab.model.technique.parse` reads them.
        off: names of techniques to switch off.
        duration: training tokens per parameter of the preset.
        published_optimizer: keep the preset's optimiser as published; by default it is `paced` to the steps.
        **changes: other fields of the recipe.

    Raises:
        ValueError: an unknown name, a knob out of range, or an impossible combination.
    """
    published = of_length(preset(name, scale).with_(**_given(changes)), duration, changes.get("tokens"))
    recipe = published if published_optimizer else paced(published)
    reference = preset(name, "full").shape
    if off:
        recipe = without(recipe, *off)
    named: dict[str, str] = {}
    for text in on:
        technique = parse(text)
        rival = named.setdefault(technique.slot, technique.name)
        if not SLOTS[technique.slot].many and (rival != technique.name):
            raise ValueError(f"{rival} and {technique.name} both fill the slot {technique.slot!r}; name only one of them.")
        plain = technique == find(technique.name)()  # default knobs are rescaled
        if plain:
            technique = technique.rescale(reference, recipe.shape)
            technique = technique if published_optimizer else suited(technique, recipe)
        recipe = recipe.with_(technique)
    return recipe.check()


def _given(changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in changes.items() if value is not None}


def run_one(recipe: Recipe, runs: Path, console: Console) -> Record:
    """Run a recipe under ``runs/single`` with a progress bar on standard error.

    Raises:
        ValueError: the folder cannot be written, or the recipe's data cannot be used.
    """
    from golflab.model.run import run
    from golflab.search.engine.session import Log
    from golflab.search.experiment.checks import writable

    folder = runs / "single" / "trials" / recipe.hash
    writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    log = Log(folder / "log.txt")
    log(f"{recipe} (seed {recipe.seed})")
    with progress_bar(console) as progress:
        bar = progress.add_task("training", total=1.0)

        def step(point: dict[str, Any]) -> None:
            log.point(point)
            said = f"step {point['step']}, loss {point['loss']:.3f}" if "loss" in point else f"step {point['step']}"
            progress.update(bar, completed=share_done(recipe, point), description=said)

        return log.end(run(recipe, folder, runs / "cache", on_step=step))


def progress_bar(console: Console) -> Progress:
    """A `rich` progress bar with a description and the remaining time; it disappears at the end."""
    return Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console, transient=True)


def share_done(recipe: Recipe, point: dict[str, Any]) -> float:
    """Fraction of the schedule that is done, by tokens or by time, whichever is larger."""
    schedule = recipe.schedule
    bounds = [(point.get("tokens", 0), schedule.tokens), (point.get("seconds", 0.0), schedule.seconds)]
    return max(spent / bound for spent, bound in bounds if bound)
