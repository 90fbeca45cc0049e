"""Commands that run trials: search, first, resume and ablate."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from golflab.search.cli.arguments import (
    Address,
    AllowOverlap,
    Budget,
    Confirm,
    Corpus,
    Cpus,
    Duration,
    Finish,
    Gpus,
    Json,
    Limit,
    LocalDisk,
    Name,
    OwnScale,
    OwnSeed,
    Preset,
    Processes,
    Pruner,
    PublishedOptimizer,
    Runs,
    Scale,
    Seed,
    Storage,
    Tokens,
    Trials,
    Trust,
    clock_seconds,
    err,
    out,
)
from golflab.search.cli.results import conclude, watched
from golflab.search.terminal import show
from golflab.search.terminal.plain import say

app = typer.Typer()
VariedPreset = Annotated[
    str | None, typer.Option(help="Preset that the search varies: baseline, or the one of your own space.", show_default=False)
]
Screen = Annotated[
    int | None,
    typer.Option(help="Trials that are chosen to tell techniques apart, before the search looks for the best one.", min=0),
]
NewStorage = Annotated[
    str | None, typer.Option(help="Optuna storage URL; by default a journal file in the experiment's folder.")
]


def own_options(parameters: dict[str, Any]) -> dict[str, Any]:
    """Those of a command's parameters that are options of an experiment, by the names of `Options`' fields.

    Args:
        parameters: the command's ``locals()``.
    """
    from golflab.search.experiment.options import Options

    fields = {field.name for field in dataclasses.fields(Options)}
    found = {name: value for name, value in parameters.items() if name in fields}
    found |= {"runs": str(parameters["runs"]), "budget": parameters.get("budget") or ""}
    return found | {"finish": tuple(parameters.get("finish") or ())}


@app.command()
def search(
    preset: VariedPreset = None,
    space: Annotated[str, typer.Option(help="A ready-made space, or your own as module:SPACE.")] = "starter",
    scale: OwnScale = None,
    trials: Trials = None,
    screen: Screen = None,
    prior: Annotated[
        str,
        typer.Option(help="What to expect of techniques before the first trial: none, or published (see `golflab evidence`)."),
    ] = "none",
    pruner: Pruner = "none",
    variants: Annotated[
        int | None,
        typer.Option(
            help="Trials that reuse a finished training, per training. Default: 2 with --budget and no --trials, else 0."
        ),
    ] = None,
    halving: Annotated[
        int | None,
        typer.Option(help="Run complete shorter schedules first, with 1/N of the tokens, and continue with one trial in N."),
    ] = None,
    budget: Budget = None,
    tokens: Tokens = None,
    duration: Duration = None,
    published_optimizer: PublishedOptimizer = False,
    limit: Limit = None,
    corpus: Corpus = None,
    allow_overlap: AllowOverlap = False,
    name: Annotated[str | None, typer.Option(help="Name of the experiment and its folder.")] = None,
    runs: Runs = Path("runs"),
    seed: OwnSeed = None,
    address: Address = None,
    cpus: Cpus = None,
    gpus_per_trial: Gpus = None,
    processes: Processes = None,
    local_disk: LocalDisk = None,
    storage: NewStorage = None,
    finish: Finish = None,
    confirm: Confirm = 0,
    as_json: Json = False,
) -> None:
    """Search for the best combination that fits: Optuna proposes, Ray Tune schedules, trials that are too large are stopped."""
    from golflab.analysis.evidence.prior import asked
    from golflab.search.design.prospects import expectations, prospects
    from golflab.search.engine.standing import UNBOUNDED
    from golflab.search.experiment import start
    from golflab.search.experiment.checks import free_name

    options = own_options(locals())
    options["prior"] = asked(prior)
    options["name"] = name or free_name(runs, f"{preset or 'baseline'}-{space.rpartition(':')[2].lower()}")
    options["trials"] = trials if trials is not None else (UNBOUNDED if budget else 24)
    options["variants"] = variants if variants is not None else (2 if budget and trials is None else 0)
    checked = start.asked(options)
    for line in [*prospects(checked, checked.load_space()), *expectations(checked, checked.load_space())]:
        say(err, line)
    conclude(watched(checked, lambda watcher: start.search(watcher, **options)), as_json, storage)


@app.command()
def first(
    name: Annotated[str, typer.Option(help="Name of the experiment.")] = "first",
    minutes: Annotated[float, typer.Option(help="Take the largest design that is done in this many minutes.", min=0.1)] = 4.2,
    corpus: Corpus = None,
    runs: Runs = Path("runs"),
    seed: Seed = 0,
    cpus: Cpus = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Measure the speed of this machine and print the plan; run nothing else.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a first search, sized for this machine: a designed set of runs, then proposals, then a confirmation."""
    from golflab.search.design import first as plans
    from golflab.search.engine.cluster import cores
    from golflab.search.experiment import start

    options: dict[str, Any] = {"preset": "baseline", "space": "first", "scale": "nano", "name": name, "runs": str(runs)}
    options |= {"corpus": corpus, "seed": seed, "cpus": cpus, "finish": plans.FINISH, "rungs": False, "float_score": False}
    options["limit"] = plans.LIMIT
    checked = start.asked(options)
    recipe = checked.recipe()
    say(err, "Preparing the text and measuring the speed of this machine …")
    pace = plans.measure(recipe, checked.cache_folder, plans.FINISH, cpus or cores())
    design = pace.choose(minutes)
    for line in plans.announce(pace, design, recipe, minutes):
        say(err, line)
    if plan_only:
        return
    plan = design.plan(recipe, checked.load_space())
    options |= {"trials": len(plan) + design.proposals, "confirm": design.seeds}
    began = time.monotonic()
    result = watched(checked, lambda watcher: start.first(plan, watcher, **options), options["trials"])
    expected, took = pace.minutes(design), (time.monotonic() - began) / 60
    say(err, f"It took {took:.1f} minutes; about {expected:.1f} were expected.")
    conclude(result, as_json)
    more = f"{checked.resume_command} --trials {len(plan) + 10 * design.proposals}"
    say(
        err,
        f"Next: `{more}` continues the search; `golflab export {name} best --to submission` writes the best as a submission.",
    )


@app.command()
def resume(
    name: Name,
    runs: Runs = Path("runs"),
    trials: Trials = None,
    budget: Budget = None,
    address: Address = None,
    cpus: Cpus = None,
    gpus_per_trial: Gpus = None,
    processes: Processes = None,
    local_disk: LocalDisk = None,
    failed: Annotated[bool, typer.Option("--failed", help="Run failed trials again; their records are set aside.")] = False,
    storage: Storage = None,
    space: Annotated[
        str | None, typer.Option(help="The experiment's own space, typed again: consents to importing it.")
    ] = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Continue a search after Ctrl-C, a crash or a kill. Finished trials are not repeated.

    A larger --trials extends a search. A larger --budget extends a ladder by seeds where they tell most.
    """
    from golflab.search.cli.ladder import DESIGN, extend
    from golflab.search.experiment import start

    changes: dict[str, Any] = {"trials": trials, "budget": budget, "address": address, "cpus": cpus}
    changes |= {"gpus_per_trial": gpus_per_trial, "processes": processes, "local_disk": local_disk}
    options = start.options_of(name, runs, trust=trust, **changes | {"storage": storage, "space": space})
    if options.design == DESIGN and budget is not None:
        extend(dataclasses.replace(options, budget=""), clock_seconds(budget), as_json=as_json)
        return
    work = lambda watcher: start.go_on(options, watcher, failed=failed, trust=trust)
    conclude(watched(options, work), as_json, options.storage)


@app.command()
def ablate(
    preset: Preset,
    design: Annotated[str, typer.Option(help="leave-one-out, add-one-in, pairs or screen.")] = "screen",
    seeds: Annotated[int, typer.Option(help="Runs of every combination; all combinations have the same seeds.")] = 1,
    iso_size: Annotated[
        bool, typer.Option("--iso-size", help="Widen the MLP by the bytes that a removed technique frees.")
    ] = False,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Print the plan and what it costs; run nothing.")] = False,
    technique: Annotated[
        list[str] | None, typer.Option(help="Technique to vary; by default all that the preset has on.")
    ] = None,
    scale: Scale = "proxy",
    tokens: Tokens = None,
    duration: Duration = None,
    published_optimizer: PublishedOptimizer = False,
    corpus: Corpus = None,
    allow_overlap: AllowOverlap = False,
    limit: Limit = None,
    seed: Seed = 0,
    name: Annotated[str | None, typer.Option(help="Name of the experiment.")] = None,
    runs: Runs = Path("runs"),
    address: Address = None,
    cpus: Cpus = None,
    gpus_per_trial: Gpus = None,
    processes: Processes = None,
    local_disk: LocalDisk = None,
    finish: Finish = None,
    as_json: Json = False,
) -> None:
    """Measure what a preset's techniques are worth, by a designed set of runs."""
    from golflab.search.cli.run_one import recipe_of
    from golflab.search.design.ablate import plan
    from golflab.search.experiment import start
    from golflab.search.experiment.checks import free_name
    from golflab.search.experiment.identity import absolute

    options = own_options(locals())
    overlap, options["binding"] = allow_overlap or None, limit is not None
    lasting: dict[str, Any] = {"tokens": tokens, "duration": duration, "published_optimizer": published_optimizer}
    recipe = recipe_of(preset, scale, corpus=corpus, allow_overlap=overlap, limit=limit, seed=seed, **lasting)
    recipe = recipe.with_(**absolute(recipe.data))
    made = plan(recipe, design, techniques=technique or (), seeds=seeds, iso_size=iso_size, binding=options["binding"])
    if plan_only:
        show.emit(made.json()) if as_json else made.text(out)
        return
    made.text(err)
    options |= {"design": made.design, "trials": len(made.recipes)}
    options["name"] = name or free_name(runs, f"{preset}-{made.design}")
    checked = start.asked(options, made.recipes)
    conclude(watched(checked, lambda watcher: start.run_plan(made.recipes, watcher, **options)), as_json)
