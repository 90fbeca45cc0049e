"""The command line. Its names, its flags and the keys of its JSON are a contract; stdout carries results and nothing else."""

# ruff: noqa: E402
from __future__ import annotations

from golflab.search.engine import lookup

lookup.working_folder_last()  # before anything is imported that the working folder may hold, too

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from golflab.search.cli import experiments as cli_experiments
from golflab.search.cli import ladder as cli_ladder
from golflab.search.cli import recipes as cli_recipes
from golflab.search.cli.arguments import (
    Address,
    AllowOverlap,
    Budget,
    Confirm,
    Corpus,
    Cpus,
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
    Runs,
    Scale,
    Seed,
    Storage,
    Tokens,
    Trials,
    Trust,
    err,
    out,
)
from golflab.search.cli.outcome import finish, watched, write_report
from golflab.search.terminal import show
from golflab.search.terminal.plain import say, write_what_can_be

app = typer.Typer(
    name="golflab",
    help="A laboratory for Parameter Golf: search, resume and ablate combinations of techniques under a byte limit.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(cli_recipes.app)
app.add_typer(cli_experiments.app)
app.add_typer(cli_ladder.app)


def main() -> None:
    """Run the command line: a user's mistake is one message on stderr and exit code 2."""
    lookup.working_folder_last()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait slow a busy machine many times over
    write_what_can_be(sys.stdout, sys.stderr)
    try:
        app()
    except ValueError as mistake:
        say(err, f"Error: {mistake}", style="red")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if not (file := lookup.users_file(error, lookup.ROOT)):
            raise
        say(err, f"Error: {file} cannot be imported: {type(error).__name__}: {error}", style="red")
        raise SystemExit(2) from None


# ---------------------------------------------------------------------- searching


@app.command()
def search(
    preset: Annotated[str | None, typer.Option(help="What to vary around: baseline, or what your own space has.")] = None,
    space: Annotated[str, typer.Option(help="A ready-made space, or your own as module:SPACE.")] = "starter",
    scale: OwnScale = None,
    trials: Trials = None,
    screen: Annotated[
        int | None, typer.Option(help="Trials that tell techniques apart before the search turns to winning.", min=0)
    ] = None,
    pruner: Annotated[
        str, typer.Option(help="What may stop a run for its score, where scores predict the end: none, median or wilcoxon.")
    ] = "none",
    variants: Annotated[
        int | None, typer.Option(help="Trials that reuse a finished training, per training; 2 with a --budget alone, else 0.")
    ] = None,
    halving: Annotated[
        int | None, typer.Option(help="Run complete schedules of 1/N of the tokens first, and promote one in N.")
    ] = None,
    budget: Budget = None,
    tokens: Tokens = None,
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
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL; a journal file in the experiment's folder by default.")
    ] = None,
    finish: Finish = None,
    confirm: Confirm = 0,
    as_json: Json = False,
) -> None:
    """Search for the best combination that fits: Ray Tune schedules, Optuna proposes, the byte budget prunes."""
    from golflab.search.design.prospects import prospects
    from golflab.search.engine.budget import UNBOUNDED
    from golflab.search.experiment import start as sweep
    from golflab.search.experiment.checks import free_name

    name = name or free_name(runs, f"{preset or 'baseline'}-{space.rpartition(':')[2].lower()}")
    count = trials if trials is not None else (UNBOUNDED if budget else 24)
    options: dict[str, Any] = {
        "preset": preset,
        "space": space,
        "scale": scale,
        "trials": count,
        "screen": screen,
        "pruner": pruner,
        "variants": variants if variants is not None else (2 if budget and trials is None else 0),
        "halving": halving,
        "budget": budget or "",
        "tokens": tokens,
        "limit": limit,
    }
    options |= {
        "corpus": corpus,
        "allow_overlap": allow_overlap,
        "name": name,
        "runs": str(runs),
        "seed": seed,
        "storage": storage,
        "finish": tuple(finish or ()),
        "confirm": confirm,
    }
    options |= {"address": address, "cpus": cpus, "gpus_per_trial": gpus_per_trial}
    options |= {"processes": processes, "local_disk": local_disk}
    checked = sweep.asked(options)
    for line in prospects(checked, checked.load_space()):
        say(err, line)
    finish(watched(checked, lambda watcher: sweep.search(watcher, **options)), as_json, storage)


@app.command()
def first(
    name: Annotated[str, typer.Option(help="Name of the experiment.")] = "first",
    minutes: Annotated[float, typer.Option(help="Take the richest design that is done in so many minutes.", min=0.1)] = 4.2,
    corpus: Corpus = None,
    runs: Runs = Path("runs"),
    seed: Seed = 0,
    cpus: Cpus = None,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Measure the pace and print the plan; run nothing.")] = False,
    as_json: Json = False,
) -> None:
    """A first search, sized for this machine: a design, what acts after training, proposals, and the best confirmed."""
    from golflab.search.design import first as plans
    from golflab.search.engine.cluster import cores
    from golflab.search.experiment import start as sweep

    options: dict[str, Any] = {"preset": "baseline", "space": "first", "scale": "nano", "name": name, "runs": str(runs)}
    options |= {"corpus": corpus, "seed": seed, "cpus": cpus, "finish": plans.FINISH, "rungs": False, "float_score": False}
    options["limit"] = plans.LIMIT
    checked = sweep.asked(options)
    recipe = checked.recipe()
    say(err, "Preparing the text and measuring how fast this machine is …")
    pace = plans.measure(recipe, checked.cache_folder, plans.FINISH, cpus or cores())
    design = pace.choose(minutes)
    for line in plans.announce(pace, design, recipe, minutes):
        say(err, line)
    if plan_only:
        return
    plan = design.plan(recipe, checked.load_space())
    options |= {"trials": len(plan) + design.proposals, "confirm": design.seeds}
    began = time.monotonic()
    result = watched(checked, lambda watcher: sweep.first(plan, watcher, **options), options["trials"])
    expected, took = pace.minutes(design), (time.monotonic() - began) / 60
    say(err, f"It took {took:.1f} minutes; about {expected:.1f} were expected.")
    finish(result, as_json)
    more = f"{checked.resume_command} --trials {len(plan) + 10 * design.proposals}"
    say(err, f"Next: `{more}` searches on; `golflab export {name} best --to handed-in` writes the best as it is handed in.")


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
    space: Annotated[str | None, typer.Option(help="Its own space, typed again: consents to importing it.")] = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Continue a search after Ctrl-C, a crash or a kill; nothing finished is repeated. More --trials extend it."""
    from golflab.search.experiment import start as sweep

    changes: dict[str, Any] = {"trials": trials, "budget": budget, "address": address, "cpus": cpus}
    changes |= {"gpus_per_trial": gpus_per_trial, "processes": processes, "local_disk": local_disk}
    options = sweep.options_of(name, runs, trust=trust, **changes | {"storage": storage, "space": space})
    work = lambda watcher: sweep.go_on(options, watcher, failed=failed, trust=trust)
    finish(watched(options, work), as_json, options.storage)


@app.command()
def status(name: Name, runs: Runs = Path("runs"), storage: Storage = None, trust: Trust = False, as_json: Json = False) -> None:
    """Say how a search stands, while it runs or after: counts, best, what is running, what failed and why."""
    from golflab.search.ledger.storage import locate
    from golflab.search.upkeep.status import status_of

    told = status_of(locate(name, runs), storage, trust)
    show.emit(told) if as_json else show.status(out, told)


@app.command()
def dashboard(
    name: Name,
    runs: Runs = Path("runs"),
    port: Annotated[int, typer.Option(help="Port to serve on.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    storage: Storage = None,
    trust: Trust = False,
) -> None:
    """Open optuna-dashboard on the search's own storage, and write its curves for TensorBoard."""
    from golflab.search.ledger.storage import locate
    from golflab.search.upkeep.status import serve_dashboard

    serve_dashboard(locate(name, runs), host, port, err, storage, trust)


@app.command()
def report(name: Name, runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Print what every technique was worth, with its error, and write the report as one HTML file."""
    write_report(_experiment(runs, name), as_json)


@app.command()
def ablate(
    preset: Preset,
    design: Annotated[str, typer.Option(help="leave-one-out, add-one-in, pairs or screen.")] = "screen",
    seeds: Annotated[int, typer.Option(help="Runs of every combination, the same seeds in all.")] = 1,
    iso_size: Annotated[bool, typer.Option("--iso-size", help="Give freed bytes back to the MLP.")] = False,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Print the plan and its price; run nothing.")] = False,
    technique: Annotated[list[str] | None, typer.Option(help="What to vary; by default what the preset has on.")] = None,
    scale: Scale = "proxy",
    tokens: Tokens = None,
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
    from golflab.search.experiment import start as sweep
    from golflab.search.experiment.checks import free_name
    from golflab.search.experiment.identity import absolute

    overlap, binding = allow_overlap or None, limit is not None
    recipe = recipe_of(preset, scale, corpus=corpus, allow_overlap=overlap, limit=limit, tokens=tokens, seed=seed)
    recipe = recipe.with_(**absolute(recipe.data))
    made = plan(recipe, design, techniques=technique or (), seeds=seeds, iso_size=iso_size, binding=binding)
    if plan_only:
        show.emit(made.json()) if as_json else made.text(out)
        return
    made.text(err)
    name = name or free_name(runs, f"{preset}-{made.design}")
    options: dict[str, Any] = {
        "preset": preset,
        "scale": scale,
        "corpus": corpus,
        "allow_overlap": allow_overlap,
        "limit": limit,
        "binding": binding,
        "tokens": tokens,
        "seed": seed,
        "design": made.design,
        "iso_size": iso_size,
        "name": name,
        "runs": str(runs),
    }
    options |= {"address": address, "cpus": cpus, "gpus_per_trial": gpus_per_trial, "trials": len(made.recipes)}
    options |= {"finish": tuple(finish or ())}
    options |= {"processes": processes, "local_disk": local_disk}
    checked = sweep.asked(options, made.recipes)
    result = watched(checked, lambda watcher: sweep.run_plan(made.recipes, watcher, **options))
    finish(result, as_json)


@app.command()
def export(
    name: Name,
    trial: Annotated[str, typer.Argument(help="A trial's number, its recipe's hash, the beginning of one, or best.")],
    to: Annotated[Path, typer.Option(help="Folder to write to.")],
    runs: Runs = Path("runs"),
) -> None:
    """Write a trial as it is handed in: the script, the weights, the recipe and the record."""
    from golflab.search.cli.export import export as write
    from golflab.search.cli.export import find_trial, said_of_splits
    from golflab.search.ledger.storage import cache_of

    folder = _experiment(runs, name)
    say = lambda sentence: err.print(sentence, highlight=False, markup=False, soft_wrap=True)
    recipe, record = find_trial(folder, trial, say)
    for file, size in write(recipe, record, cache_of(folder), to.resolve(), say).items():
        out.print(f"{size:>12,}  {to / file}", highlight=False, soft_wrap=True)
    say(said_of_splits(recipe))


@app.command()
def audit(
    target: Annotated[
        str | None,
        typer.Argument(help="A preset, NAME/TRIAL of an experiment, the folder of an export, or a stranger's FILE.py:FACTORY."),
    ] = None,
    scale: Scale = "proxy",
    runs: Runs = Path("runs"),
    seed: Annotated[
        int | None, typer.Option(help="Of the experiments, to repeat a verdict; without it one is drawn and told.")
    ] = None,
    budget: Annotated[float, typer.Option(help="Seconds for the experiments.", min=1)] = 60.0,
    corpus: Corpus = None,
    text: Annotated[Path | None, typer.Option(help="Of FILE.py:FACTORY: a UTF-8 text to score instead of a corpus.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Of FILE.py:FACTORY: its SentencePiece model; else one is trained on the corpus.")
    ] = None,
    files: Annotated[
        list[Path] | None, typer.Option(help="Of FILE.py:FACTORY: a file that it reads, handed to the factory and counted.")
    ] = None,
    bytes_: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--bytes", metavar="TOKENIZER TABLES", help="Only count bytes: a .model, and .npy, .npz, .json or .bin."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check by experiment that an evaluation is legal: causal, normalised, counted right, within its bytes and time."""
    from golflab.search.cli.export import judge, judge_bytes

    if (target is None) == (bytes_ is None):
        raise ValueError("audit: give either what is to be judged or --bytes TOKENIZER TABLES.")
    if bytes_ is not None:
        verdict = judge_bytes(*bytes_, corpus or "sotu")
    else:
        entry = {"files": tuple(files or ()), "corpus": corpus, "text": text, "tokenizer": tokenizer}
        verdict = judge(target or "", scale, runs.resolve(), entry, seed=seed, budget=budget)
    show.emit(verdict.to_json()) if as_json else out.print(str(verdict), highlight=False, markup=False, soft_wrap=True)
    if not verdict.passed:
        raise SystemExit(1)


def _experiment(runs: Path, name: str) -> Path:
    """The folder of an experiment that exists."""
    from golflab.search.ledger.storage import locate, read_experiment

    folder = locate(name, runs)
    if not folder.is_dir():
        read_experiment(folder)
    return folder


if __name__ == "__main__":
    main()
