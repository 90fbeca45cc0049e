"""A search from Python: ``search(...)`` starts one, ``resume(name)`` continues it, both return what was found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from golflab.model.recipe import Recipe
from golflab.model.system.wording import did_you_mean
from golflab.search.experiment.checks import check_name, check_plan, check_space, fresh, largest, load, settled, workable
from golflab.search.experiment.confirm import confirmation
from golflab.search.experiment.consent import SENSITIVE, check_consent
from golflab.search.experiment.drive import Result, connected, drive
from golflab.search.experiment.experiment_file import check_writable, locate, read_experiment
from golflab.search.experiment.folder import begin, check_study, create, reopen
from golflab.search.experiment.identity import RUNNER, absolute, data_of
from golflab.search.experiment.options import Options
from golflab.search.ledger.ledger import Ledger
from golflab.search.sampler.selection import REFUSED

# Options that `resume` may change. A storage must contain the experiment's study.
MOVABLE = ("trials", "budget", "address", "cpus", "cpus_per_trial", "gpus_per_trial", "processes", "local_disk", "storage")


def search(watcher: Any = None, **options: Any) -> Result:
    """Start a search and run it to its end.

    Args:
        watcher: a `golflab.search.engine.searcher.Watcher` that is called for every event.
        **options: fields of `Options`.

    Raises:
        ValueError: an invalid option, before any work starts.
    """
    known = [f.name for f in dataclasses.fields(Options)]
    if unknown := set(options) - set(known):
        word = sorted(unknown)[0]
        raise ValueError(f"search: unknown option {word!r}.{did_you_mean(word, known)} The options are: {', '.join(known)}.")
    return _start(asked(options), watcher)


def asked(options: Mapping[str, Any], plan: Sequence[Recipe] | None = None) -> Options:
    """The options of a new experiment, checked, with all defaults of the preset and the space filled in.

    Args:
        options: fields of `Options`.
        plan: the recipes of an experiment that runs a plan.

    Raises:
        ValueError: an invalid option, an experiment of this name, nothing that fits the limit, or an unusable text.
    """
    check_name(str(options.get("name", "search")))
    found = fresh(workable(settled(Options(**options), plan)))
    if plan and found.binds:
        check_plan(plan, load(found.forecaster)())
    elif not found.design:
        check_space(found.load_space(), load(found.forecaster)(), found.recipe().seed)
    data_of(plan or [found.recipe()], found.cache_folder)
    return found


def run_plan(recipes: Sequence[Recipe], watcher: Any = None, **options: Any) -> Result:
    """Run a list of recipes (an ablation's, say) as an experiment: scheduled, recorded and resumed like a search.

    Args:
        recipes: to run; one that cannot fit its limit is counted and not trained, unless ``binding`` is False.
        watcher: a `golflab.search.engine.searcher.Watcher` that is called for every event.
        **options: fields of `Options`; ``trials`` follows from the recipes.

    Raises:
        ValueError: nothing to run, or an option that cannot be.
    """
    unique = {recipe.hash: recipe for recipe in (r.with_(**absolute(r.data)).check() for r in recipes)}
    if not unique:
        raise ValueError("run_plan: there is no recipe to run.")
    plan = list(unique.values())
    return _start(asked({"design": "plan"} | options | {"trials": len(plan)}, plan), watcher, plan)


def first(plan: Sequence[Recipe], watcher: Any = None, **options: Any) -> Result:
    """Run a plan, then let the sampler propose from its results: a search that begins with a design.

    Args:
        plan: recipes to run before anything is proposed; the space must contain them. The largest combination of the space is
            asked for, too, if it cannot fit, so that the report shows an example of a refusal.
        watcher: a `golflab.search.engine.searcher.Watcher` that is called for every event.
        **options: fields of `Options`; ``trials`` counts the plan and the proposals.

    Raises:
        ValueError: an option that cannot be, or an experiment of this name.
    """
    found = asked(options | {"design": "first"})
    return _start(found, watcher, [recipe.with_(**absolute(recipe.data)) for recipe in plan], _ask_for_the_largest)


def _ask_for_the_largest(ledger: Ledger) -> None:
    params = largest(ledger.problem.recipes, ledger.problem.forecaster)
    if ledger.problem.chance_of(params) < REFUSED:
        ledger.enqueue(params)


def resume(
    name: str | Path,
    runs: str | Path = "runs",
    watcher: Any = None,
    *,
    failed: bool = False,
    trust: bool = False,
    **changes: Any,
) -> Result:
    """Continue an experiment. Finished trials are not repeated; running ones continue from their checkpoints.

    Args:
        name: of the experiment in ``runs``, or the path of its folder.
        runs: folder of experiments.
        watcher: a `golflab.search.engine.searcher.Watcher` that is called for every event.
        failed: run failed trials again; their records are set aside.
        trust: consent to the values in its file: see `golflab.search.experiment.consent`.
        **changes: options that may be changed: ``trials`` and ``budget`` extend the search; ``address``, ``cpus``,
            ``processes`` and ``local_disk`` move it; ``storage`` gives the database's password.

    Raises:
        ValueError: there is no such experiment, or its identity has changed.
    """
    return go_on(options_of(name, runs, trust=trust, **changes), watcher, failed=failed, trust=trust)


def options_of(name: str | Path, runs: str | Path = "runs", *, trust: bool = False, **changes: Any) -> Options:
    """The options an experiment was started with, with the given changes.

    Raises:
        ValueError: there is no such experiment, its file names what the user has not consented to, or an option that must
            stay was changed.
    """
    folder = locate(name, runs)
    saved = read_experiment(folder)
    before, given = _before(saved), {key: value for key, value in changes.items() if value is not None}
    for key in given:
        if key not in MOVABLE and given[key] != before.get(key):
            raise ValueError(
                f"resume: {key!r} cannot be changed: the experiment has {before.get(key)!r}, and {given[key]!r} was given. "
                "Start another experiment with it."
            )
    check_consent(folder, saved | {"options": before}, SENSITIVE, given, trust)
    try:
        options = Options.read(before | given | {"name": folder.name, "runs": str(folder.parent)})
    except ValueError as error:
        raise ValueError(f"{folder / 'experiment.json'}: {error}") from None
    check_writable(folder)
    return workable(options)


def _before(saved: dict[str, Any]) -> dict[str, Any]:
    """Options in an experiment's file; values that format 1 stored wrongly are left out."""
    options = {key: value for key, value in saved["options"].items() if key not in ("name", "runs")}
    if saved.get("format", 1) == 1:
        if ":" in str(options.get("space")):  # it stored what was asked for, but ran with the values of the space
            options |= dict.fromkeys(("preset", "scale", "tokens", "limit", "corpus", "seed"))
        if saved["options"].get("design") == "confirm" and options.get("cache"):
            options["cache"] = None
    return options


def go_on(options: Options, watcher: Any = None, *, failed: bool = False, trust: bool = False) -> Result:
    """Continue an experiment with the options that `options_of` gave.

    Raises:
        ValueError: its identity has changed.
    """
    own, notes = reopen(options)
    if watcher is not None:
        for note in notes:
            watcher.note(note)
    return _confirmed(options, drive(options, own, watcher, failed=failed), watcher, trust)


def _start(
    options: Options,
    watcher: Any,
    plan: list[Recipe] | None = None,
    prepare: Callable[[Ledger], None] | None = None,
) -> Result:
    """Run a new experiment. A missing cluster or an unusable text is reported before anything is written."""
    own = begin(options, plan)
    check_study(options, own)
    with connected(options, watcher):
        data_of(plan or [options.recipe()], options.cache_folder, encoded=options.runner == RUNNER)
        create(options, own, plan)
        return _confirmed(options, drive(options, own, watcher, prepare), watcher)


def _confirmed(options: Options, result: Result, watcher: Any, trust: bool = False) -> Result:
    """Confirm the best recipe, if that was asked for: see `golflab.search.experiment.confirm`."""
    if not options.confirm or not result.finished or result.best is None or result.best.recipe == options.recipe().hash:
        return result
    inside, plan = confirmation(options, result.best)
    if watcher is not None:
        watcher.expects(len(plan))
    if (inside.folder / "experiment.json").exists():
        moved = {key: getattr(options, key) for key in MOVABLE if key not in ("trials", "budget", "storage")}
        done = resume(inside.name, inside.runs, watcher, trust=trust, **moved)
    else:
        done = run_plan(plan, watcher, **{f.name: getattr(inside, f.name) for f in dataclasses.fields(Options)})
    return dataclasses.replace(result, finished=done.finished, seconds=result.seconds + done.seconds)
