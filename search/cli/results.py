"""Commands that look at an experiment: status, dashboard, report, export and audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from golflab.search.cli.arguments import Corpus, Json, Name, Runs, Scale, Storage, Trust, err, out
from golflab.search.terminal import show

app = typer.Typer()


@app.command()
def status(
    name: Name,
    trial: Annotated[int | None, typer.Option(help="Show this trial only: how it ended, and why.")] = None,
    runs: Runs = Path("runs"),
    storage: Storage = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Show the state of a search, while it runs or after: counts, the best trial, what is running, what failed and why."""
    from golflab.search.experiment.experiment_file import locate
    from golflab.search.upkeep.status import status_of, trial_of

    folder = locate(name, runs)
    found = status_of(folder, storage, trust) if trial is None else trial_of(folder, trial, storage, trust)
    if as_json:
        show.emit(found)
    else:
        show.status(out, found) if trial is None else show.trial(out, found)


@app.command()
def dashboard(
    name: Name,
    runs: Runs = Path("runs"),
    port: Annotated[int, typer.Option(help="Port to serve on.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    storage: Storage = None,
    trust: Trust = False,
) -> None:
    """Open optuna-dashboard on the search's storage, and write its training curves for TensorBoard."""
    from golflab.search.experiment.experiment_file import locate
    from golflab.search.upkeep.status import serve_dashboard

    serve_dashboard(locate(name, runs), host, port, err, storage, trust)


@app.command()
def report(name: Name, runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Print what every technique was worth, with its error, and write the report as one HTML file."""
    write_report(_experiment(runs, name), as_json)


def write_report(folder: Path, as_json: bool) -> None:
    """Print the report of an experiment, and write its page."""
    from golflab.analysis.report.report import report as work_out

    found = work_out(folder)
    page = found.html(folder / "report.html")
    if as_json:
        show.emit(found.json())
    else:
        found.text(out)
        err.print(f"Report: {page}", highlight=False, soft_wrap=True)


@app.command()
def export(
    name: Name,
    trial: Annotated[str, typer.Argument(help="A trial's number, its recipe's hash, the beginning of one, or best.")],
    to: Annotated[Path, typer.Option(help="Folder to write to.")],
    runs: Runs = Path("runs"),
) -> None:
    """Write a trial as a submission: the script, the weights, the recipe and the record."""
    from golflab.search.cli.export import bytes_in_words, find_trial, splits_in_words
    from golflab.search.cli.export import export as write
    from golflab.search.experiment.experiment_file import cache_of

    folder = _experiment(runs, name)
    say = lambda sentence: err.print(sentence, highlight=False, markup=False, soft_wrap=True)
    recipe, record = find_trial(folder, trial, say)
    for file, size in write(recipe, record, cache_of(folder), to.resolve(), say).items():
        out.print(f"{size:>12,}  {to / file}", highlight=False, soft_wrap=True)
    say(bytes_in_words(to.resolve()))
    say(splits_in_words(recipe))


@app.command()
def audit(
    target: Annotated[
        str | None,
        typer.Argument(
            help="A preset, NAME/TRIAL of an experiment, the folder of an export, or another entry's FILE.py:FACTORY."
        ),
    ] = None,
    scale: Scale = "proxy",
    runs: Runs = Path("runs"),
    seed: Annotated[
        int | None, typer.Option(help="Seed of the experiments, to repeat a verdict; without it one is drawn and printed.")
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
    """Test whether an evaluation follows the rules: causal, normalised, counted correctly, within its bytes and time."""
    from golflab.search.cli.export import judge, judge_bytes

    if (target is None) == (bytes_ is None):
        raise ValueError("audit: give either a target or --bytes TOKENIZER TABLES, not both.")
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
    from golflab.search.experiment.experiment_file import locate, read_experiment

    folder = locate(name, runs)
    if not folder.is_dir():
        read_experiment(folder)
    return folder


def watched(options: Any, work: Any, trials: int | None = None) -> Any:
    """Do ``work`` while a live table on stderr shows the experiment's trials."""
    from golflab.search.terminal.live_table import LiveTable

    with LiveTable(options.recipe(), trials or options.trials) as watcher:
        return work(watcher)


def conclude(result: Any, as_json: bool, storage: str | None = None) -> None:
    """Print how a search ended, and write its report."""
    from golflab.search.upkeep.status import status_of

    show.status(err, status_of(result.folder, storage))
    if not result.finished:
        raise SystemExit(130)
    if result.best is None:
        none = "Nothing completed fits the byte limit." if result.counts["complete"] else "No trial completed within the limit."
        err.print(none, style="red")
    write_report(result.folder, as_json)
    if result.counts["complete"] == 0 and result.counts["failed"]:
        raise SystemExit(1)
