"""Checks that are made before any work starts and before anything of an experiment is created."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution

from golflab.model.recipe import Recipe
from golflab.model.system.files import write_atomic
from golflab.model.ways import Way
from golflab.search.engine.standing import Budget
from golflab.search.experiment.experiment_file import RESERVED
from golflab.search.experiment.identity import absolute
from golflab.search.experiment.options import Options, scale_of
from golflab.search.ledger.database import check_address
from golflab.search.ledger.problem import RecipeProblem, within
from golflab.search.sampler.fitting import FittingSampler
from golflab.search.sampler.proposal import Forecasts, chance
from golflab.search.sampler.selection import REFUSED
from golflab.spaces.presets import PRESETS
from golflab.spaces.scales import BOTH
from golflab.spaces.space import Space

OURS = ("trials", "study.journal", "plan.json", "report.html", "drivers", "shorter", "tensorboard")  # in an experiment's folder


def check_name(name: str) -> None:
    """Check the name of an experiment.

    Raises:
        ValueError: characters that are not allowed, or a name that golflab uses itself.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise ValueError(f"name={name!r} must be 1 to 64 letters, digits, dots, dashes or underscores.")
    if (
        what := RESERVED.get(name.lower())
    ) is not None:  # upper and lower case alike, because some file systems do not distinguish them
        raise ValueError(f"name={name!r} is the folder of {what}; choose another --name.")


def workable(options: Options) -> Options:
    """Return the options if a new or old experiment can run with them.

    Raises:
        ValueError: what it got, what is allowed and what to do.
    """
    if options.trials < 1:
        raise ValueError(f"trials={options.trials} must be at least 1.")
    if options.variants < 0:
        raise ValueError(f"variants={options.variants} must not be negative.")
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"limit={options.limit} must be a positive number of bytes.")
    Budget.parse(options.budget)
    if options.confirm < 0:
        raise ValueError(f"confirm={options.confirm} must not be negative.")
    options.load_space()
    for text in options.finish:
        Way.parse(text).check(options.recipe())
    options.check_team()
    options.score_pruner()
    for dotted in (options.runner, options.forecaster):
        load(dotted)
    if options.storage is not None:
        check_address(options.storage)
    writable(options.folder, keep=False)
    return options


def settled(options: Options, plan: Sequence[Recipe] | None = None) -> Options:
    """The options with all defaults of the preset and the space filled in, so that the file says what runs.

    Args:
        options: as the user gave them.
        plan: the recipes of an experiment that runs a list.

    Raises:
        ValueError: both a duration and tokens were given, or an option cannot be.
    """
    if options.duration is not None and options.tokens is not None:
        raise ValueError(BOTH.format(options.duration, options.tokens))
    recipe = plan[0] if plan and not options.proposes else options.recipe()
    changes: dict[str, Any] = {"limit": recipe.limit, "seed": recipe.seed, "binding": options.binds} | absolute(recipe.data)
    changes["allow_overlap"] = recipe.data.allow_overlap
    if recipe.name in PRESETS or ":" in options.space:
        changes["preset"] = recipe.name if recipe.name in PRESETS else None
    changes["scale"] = options.scale or scale_of(recipe)
    if options.proposes or recipe.shape == options.recipe().shape:
        changes["tokens"] = recipe.schedule.tokens
    changes["prior"] = within(options.prior, options.load_space()) if options.proposes else ()
    if options.cache is not None:
        changes["cache"] = str(options.cache_folder)
    return dataclasses.replace(options, **changes)


def fresh(options: Options) -> Options:
    """Return the options if no experiment has this name yet and its folder holds no files that golflab would write.

    Raises:
        ValueError: there is one; the message says how to continue it.
    """
    folder = options.folder
    if (folder / "experiment.json").exists():
        raise ValueError(
            f"There is an experiment called {options.name!r} already: `{options.resume_command}`, or choose another --name."
        )
    if found := [name for name in OURS if (folder / name).exists() or (folder / name).is_symlink()]:
        raise ValueError(
            f"{folder} is not an experiment (it has no experiment.json), but it contains {found[0]!r}, a name that experiments "
            "use; choose another --name."
        )
    return options


def load(dotted: str) -> Callable[..., Any]:
    """Import ``module:name``.

    Raises:
        ValueError: it cannot be imported.
    """
    module, _, name = dotted.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{dotted!r} cannot be imported: {error}.") from None


def writable(folder: Path, keep: bool = True) -> None:
    """Check that a folder can be created and written to.

    Args:
        folder: to write to; it is created.
        keep: whether it stays if it did not exist before.

    Raises:
        ValueError: it cannot be written.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / ".writable", b"")
        (folder / ".writable").unlink()
        with contextlib.suppress(OSError):  # another process uses it by now
            for path in () if keep else missing:
                path.rmdir()
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error.strerror}. Choose another folder with --runs.") from None


def free_name(runs: Path, wish: str) -> str:
    """``wish``, with a number appended if an experiment of that name exists."""
    names = itertools.chain([wish], (f"{wish}-{n}" for n in itertools.count(2)))
    return next(name for name in names if not (runs / name).exists() and name.lower() not in RESERVED)


# ---------------------------------------------------------------------- whether anything can fit


def check_space(space: Space, forecaster: Forecasts, seed: int = 0) -> None:
    """Check that some combination of a space may fit its limit. The preset is checked first, and usually fits.

    Raises:
        ValueError: no combination was found that may fit.
    """
    limit = space.preset.limit
    if chance(forecaster(space.preset), limit) >= REFUSED:
        return
    if FittingSampler(RecipeProblem(space, forecaster), seed=seed).propose([], 0).params is None:
        needs = _needs(space.preset, forecaster)
        raise ValueError(f"limit={limit:,} bytes: no combination of the space {space.name!r} can fit; {needs}")


def check_plan(recipes: Sequence[Recipe], forecaster: Forecasts) -> None:
    """Check that some of a list of recipes may fit its limit.

    Raises:
        ValueError: none can.
    """
    if all(chance(forecaster(recipe), recipe.limit) < REFUSED for recipe in recipes):
        raise ValueError(
            f"limit={recipes[0].limit:,} bytes: none of the {len(recipes)} recipes can fit; {_needs(recipes[0], forecaster)}"
        )


def _needs(recipe: Recipe, forecaster: Forecasts) -> str:
    size = forecaster(recipe)
    return f"{recipe.name or 'the first'} is forecast at {size['low']:,.0f} to {size['high']:,.0f}. Raise --limit."


def largest(space: Space, forecaster: Forecasts) -> dict[str, Any]:
    """The combination with the largest forecast, by a greedy search over its choices; knobs keep the preset's values."""
    params = space.params(space.preset)
    for name, rule in space.distributions().items():
        if isinstance(rule, CategoricalDistribution) and (name in space.choices or name.startswith("shape.")):
            sizes = {value: forecaster(space.recipe(params | {name: value}))["mid"] for value in rule.choices}
            params[name] = max(sizes, key=lambda value: sizes[value])
    return params
