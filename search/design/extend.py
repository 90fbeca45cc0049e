"""A ladder that has run is extended: its rungs are read back from its plan, and further seeds, rungs and techniques join."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from golflab.model.recipe import Recipe
from golflab.model.record import records_in
from golflab.model.slots import SLOTS
from golflab.model.technique import find
from golflab.search.design.ladder import Pace, Rung, Rungs, parameters
from golflab.search.experiment.experiment_file import read_experiment
from golflab.search.experiment.identity import refuse_differences
from golflab.spaces.presets import PRESETS
from golflab.spaces.scales import SCALES, at_scale, paced

TODO = "Name what ran, or start another experiment with --name."


def rungs_of(plan: Sequence[Recipe]) -> Rungs:
    """The rungs of a ladder, read back from the recipes of its plan.

    Args:
        plan: of `Rungs.recipes`, perhaps with recipes appended. A rung's first recipe is what the others are compared with.
    """
    groups: dict[tuple[object, object], list[Recipe]] = {}
    for recipe in plan:
        groups.setdefault((recipe.shape, recipe.schedule), []).append(recipe)
    found = [_rung(runs) for runs in groups.values()]
    techniques = dict.fromkeys(name for rung in found for name in rung.arms if name)
    return Rungs(_in_order(found), tuple(techniques))


def _rung(runs: Sequence[Recipe]) -> Rung:
    base = runs[0]
    arms = {_technique(recipe, base): recipe for recipe in reversed(runs) if recipe.seed == base.seed}
    named = [scale for scale in SCALES if base.name in PRESETS and at_scale(PRESETS[base.name], scale).shape == base.shape]
    rung = Rung(named[0] if named else "", 0.0, {"": base} | arms)
    size = parameters(rung)
    return Rung(rung.scale or f"{size:,}", float(f"{(base.schedule.tokens or 0) / size:.3g}"), rung.arms)


def _technique(recipe: Recipe, base: Recipe) -> str:
    """The technique by which an arm differs from what it is compared with: its own, else the one it lacks.

    Where one was left out, its slot's default may have come in with knobs that suit the steps.
    """
    mine, theirs = {t.name for t in recipe.techniques}, {t.name for t in base.techniques}
    added = sorted(name for name in mine - theirs if SLOTS[find(name).slot].default != name)
    return next(iter(added or sorted(theirs - mine)), "")


def merged(before: Rungs, asked: Rungs) -> Rungs:
    """The rungs that ran and those asked for; a rung in both has the arms of both.

    Raises:
        ValueError: what is asked for differs from what ran in its preset, text or seed, or in a technique's knobs, or an
            earlier golflab paced what ran in another way.
    """
    if any(paced(rung.base) != rung.base for rung in before.rungs):
        raise ValueError(
            "This ladder cannot be extended so: an earlier golflab started it, and its optimisers follow the steps by another "
            f"rule. Its rungs and new ones could not be compared. {TODO.partition(', or ')[2].capitalize()}"
        )
    refuse_differences(
        "This ladder cannot be extended so",
        {"recipe": _told(before.rungs[0].base)},
        {"recipe": _told(asked.rungs[0].base)},
        TODO,
    )
    found = {rung.key: rung for rung in before.rungs}
    for rung in asked.rungs:
        ran = found.get(rung.key)
        if ran is not None:
            for name in ran.arms.keys() & rung.arms.keys():
                what = f"This ladder cannot be extended so. {name or 'The preset'} at {rung.scale}"
                refuse_differences(what, {"own": _body(ran.arms[name])}, {"own": _body(rung.arms[name])}, TODO)
        found[rung.key] = Rung(rung.scale, rung.tokens_per_parameter, (ran.arms if ran else {}) | rung.arms)
    techniques = dict.fromkeys([*before.techniques, *asked.techniques])
    return Rungs(_in_order(list(found.values())), tuple(techniques), asked.notes)


def seeds_done(found: Rungs, plan: Sequence[Recipe]) -> list[int]:
    """By rung: how many seeds, from the first on, a plan holds of all its arms."""
    known = {recipe.hash for recipe in plan}
    counts = []
    for rung in found.rungs:
        count = 0
        while all(recipe.with_(seed=rung.base.seed + count).hash in known for recipe in rung.arms.values()):
            count += 1
        counts.append(count)
    return counts


def finished(folder: Path) -> set[str]:
    """Hashes of the recipes of which an experiment has a record."""
    return {record.recipe for _, record in records_in(folder / "trials")}


def seconds_spent(folder: Path) -> float:
    """Seconds on the clock that an experiment has taken, over all resumes."""
    return float(read_experiment(folder).get("seconds", 0.0))


def seconds_left(found: Rungs, pace: Mapping[str, Pace], plan: Sequence[Recipe], done: Set[str]) -> float:
    """Seconds on one worker of the runs of a plan that are not done."""
    waiting: dict[tuple[object, object], list[Recipe]] = {}
    for recipe in plan:
        if recipe.hash not in done:
            waiting.setdefault((recipe.shape, recipe.schedule), []).append(recipe)
    return sum(rung.price(pace[rung.scale], waiting[rung.key]) for rung in found.rungs if rung.key in waiting)


def _told(base: Recipe) -> Mapping[str, object]:
    body = _body(base)
    return {"preset": base.name, "seed": base.seed, "data": body["data"]}


def _body(recipe: Recipe) -> dict[str, object]:
    return {key: value for key, value in recipe.to_json().items() if key != "name"}


def _in_order(rungs: Sequence[Rung]) -> tuple[Rung, ...]:
    """Small scales first, and of each the short durations: the order in which `golflab.search.design.ladder.rungs` has them."""
    return tuple(sorted(rungs, key=lambda rung: (parameters(rung), rung.tokens_per_parameter)))
