"""The command that prints what entries published about techniques."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from golflab.search.cli.arguments import Json, err, out
from golflab.search.terminal import show
from golflab.search.terminal.plain import say

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer()
CAUTION = (
    "Rows with a doubt, or with several techniques, are left out of the means. Entries print what helped more often than what "
    "did not, so the means are too good."
)


@app.command()
def evidence(
    technique: Annotated[
        str | None, typer.Argument(help="A technique of the catalogue, or words of a change that it lacks; without: all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the effects that entries published, and what they say together."""
    from golflab.analysis.evidence import published

    table = published.load() if technique is None else found(technique)
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


def found(technique: str) -> pd.DataFrame:
    """The rows about a technique.

    Raises:
        ValueError: neither the catalogue nor any row knows the name.
    """
    from golflab.analysis.evidence.published import about
    from golflab.model.technique import catalogue

    table = about(technique)
    if table.empty and technique not in catalogue():
        near = difflib.get_close_matches(technique, catalogue(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"evidence: {technique!r} is no technique, and no published change contains it.{hint} `golflab techniques` lists "
            "the techniques; `golflab evidence` lists the changes."
        )
    return table


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON values; what is missing is null."""
    return [
        {key: None if value is None or value != value else value for key, value in row.items()}  # NaN is not itself
        for row in table.astype(object).where(table.notna(), None).to_dict("records")
    ]


def effects_grid(table: pd.DataFrame) -> Any:
    """The published effects as a `rich` table."""
    columns = {
        "technique": "left",
        "change": "left",
        "Δ bpb": "right",
        "± (assumed)": "right",
        "seeds": "right",
        "scale": "left",
        "setting": "left",
        "doubt": "left",
        "source": "left",
    }
    rows = []
    for row in rows_of(table):
        against = f", for {row['instead_of']}" if row["instead_of"] and "for " not in row["change"] else ""
        seeds = "–" if row["seeds_new"] is None else f"{row['seeds_new']} v {row['seeds_old']}"
        name = row["technique"] or row["knob"] or "–"
        numbers = (f"{row['delta_bpb']:+.5f}", f"{1.96 * row['se_assumed']:.4f}", seeds)
        rows.append([name, row["change"] + against, *numbers, row["scale"] or "–", row["context"], row["doubt"], row["source"]])
    return show.table(f"Published effects ({len(table)})", columns, rows)


def summary_grid(table: pd.DataFrame) -> Any:
    """What several sources say together, as a `rich` table."""
    columns = {"technique": "left", "change": "left", "scale": "left", "mean Δ bpb": "right", "95 %": "right"}
    columns |= {"between settings": "right", "better in": "right"}
    rows = []
    for row in table.itertuples():
        spread = "–" if math.isnan(row.between) else f"{row.between:.4f}"
        interval = f"{row.low:+.4f} … {row.high:+.4f}"
        share = f"{row.better} of {row.sources}"
        rows.append([row.technique, row.change, row.scale, f"{row.delta_bpb:+.4f}", interval, spread, share])
    return show.table("Several sources together (random effects)", columns, rows)
