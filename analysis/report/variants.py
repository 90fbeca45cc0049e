"""Many artifacts of one training: the efficient ones, as a table, a figure, a CSV file and a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from golflab.analysis.comparison.frontier import efficient
from golflab.analysis.files import write_whole
from golflab.analysis.inference.intervals import half_width
from golflab.analysis.report import plots
from golflab.analysis.report.page import render
from golflab.analysis.report.parts import section
from golflab.model.system.wording import number_of

SLOTS = ("rotate", "prune", "bits", "clip", "protect", "rounding", "correct", "trim", "layout", "codec")
NUMBERS = ("bpb", "over_float", "over_float_se", "over_best", "over_best_se", "loss", "seconds")


def variants(result: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of ``golflab variants --json`` as a table, best first.

    Returns:
        rank, techniques (those that vary), a column per slot, bytes, fits, bpb, over_float and over_best with their standard
        errors, loss, seconds, recipe, limit and efficient (no other is smaller and at least as good).
    """
    table = pd.DataFrame(list(result["variants"]))
    table[list(NUMBERS)] = table[list(NUMBERS)].astype(float)
    varying = [slot for slot in SLOTS if slot in table and (table[slot] != table[slot].iloc[0]).any()]
    table.insert(1, "techniques", [" ".join(filter(None, row)) or "as it is" for row in table[varying].to_numpy()])
    table["limit"] = result["limit"]
    for name in ("over_float", "over_best"):  # errors come from differences of the stretches the text was cut into
        table[f"{name}_half"] = half_width(table[f"{name}_se"], result["stretches"] - 1)
    table["efficient"] = efficient(table[["bytes", "bpb"]].to_numpy(float))
    return table


def summary(result: Mapping[str, Any], table: pd.DataFrame) -> list[str]:
    """The table in sentences."""
    fitting = table[table["fits"]]
    lines = [
        f"{number_of(len(table), 'artifact')} of one training of {result['preset']} (recipe {result['recipe']}, seed "
        f"{result['seed']}), scored on {result['tokens']:,} targets; {len(fitting)} within {result['limit']:,} bytes. Before "
        f"quantisation: {result['bpb_float']:.4f} bits per byte."
    ]
    if len(fitting):
        best = fitting.iloc[0]
        near = fitting[fitting["over_best"] <= fitting["over_best_half"].fillna(0)]
        small = near.loc[near["bytes"].idxmin()]
        lines.append(
            f"Best that fits: {best['techniques']}, {best['bytes']:,} bytes, {best['bpb']:.4f} bits per byte "
            f"({_gap(best, 'over_float')} over float)."
        )
        lines.append(
            f"Not distinguishable from the best (95 %), itself included: {len(near)}. The smallest of them: "
            f"{small['techniques']}, {small['bytes']:,} bytes."
        )
    else:
        lines.append(
            f"None fits; the smallest is {table.loc[table['bytes'].idxmin(), 'techniques']}, {table['bytes'].min():,} bytes."
        )
    if result["skipped"]:
        lines.append(
            f"Impossible combinations: {sum(result['skipped'].values())}, the first because: {next(iter(result['skipped']))}"
        )
    return lines


def html(result: Mapping[str, Any], path: Path) -> Path:
    """Write table and figure as one page that opens offline."""
    table = variants(result)
    lead = (
        "Bits per byte against bytes. Bars are 95 % intervals of the paired difference from the float weights on the same "
        "text; they do not cover other trainings. The line joins the efficient artifacts: no other is better in both."
    )
    sections = [
        section("Bytes against bits per byte", lead, [plots.variants(table, result["bpb_float"])]),
        section(
            "Efficient artifacts", "No other artifact is better in both.", tables=[("", _shown(table[table["efficient"]]))]
        ),
        section("All artifacts", "Best first; those over the limit come last.", tables=[("", _shown(table))]),
    ]
    return write_whole(
        path, render(f"Artifacts of {result['preset']}", summary(result, table), _cards(result, table), sections)
    )


def text(result: Mapping[str, Any], console: Any, rows: int = 20) -> None:
    """Print the summary, the efficient artifacts and the best ones to a `rich` console."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = variants(result)
    for sentence in summary(result, table):
        console.print(sentence, highlight=False, soft_wrap=True)
    names = WIDE if console.width >= 120 else NARROW
    front = table[table["efficient"]].sort_values("bytes")
    for title, part in (
        (f"{len(front)} efficient artifacts: no other is better in both", front),
        ("The best that fit", table.head(rows)),
    ):
        grid = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for name in names:
            words = name == "techniques"
            grid.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
        for row, fits in zip(_shown(part)[list(names)].itertuples(index=False), part["fits"], strict=True):
            grid.add_row(*map(str, row), style="" if fits else "dim")
        console.print(grid)


NARROW = ("rank", "techniques", "bytes", "bpb", "over float ± 95 %")
WIDE = (*NARROW, "over best ± 95 %", "weights' loss")


def _cards(result: Mapping[str, Any], table: pd.DataFrame) -> list[tuple[str, str, str]]:
    cards = [("artifacts", f"{len(table)}", "of one training"), ("before quantisation", f"{result['bpb_float']:.4f}", "bpb")]
    for best in table[table["fits"]].head(1).itertuples():
        cards += [
            ("best that fits", f"{best.bpb:.4f}", f"± {best.over_float_half:.4f} against float"),
            ("its bytes", f"{best.bytes:,}", f"{best.bytes / result['limit']:.1%} of {result['limit']:,}"),
        ]
    return cards


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "rank": table["rank"],
            "techniques": table["techniques"],
            "bytes": [f"{v:,}" for v in table["bytes"]],
            "bpb": [f"{v:.4f}" for v in table["bpb"]],
            "over float ± 95 %": [_gap(row, "over_float") for _, row in table.iterrows()],
            "over best ± 95 %": [_gap(row, "over_best") for _, row in table.iterrows()],
            "weights' loss": [f"{v:.2%}" for v in table["loss"]],
            "fits": ["yes" if v else "no" for v in table["fits"]],
        }
    )


def _gap(row: pd.Series, name: str) -> str:
    half = row[f"{name}_half"]
    return f"{row[name]:+.4f} ± {half:.4f}" if pd.notna(half) else f"{row[name]:+.4f}, error unknown"
