"""What entries published about techniques, as tables for a terminal and as JSON values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from golflab.search.terminal import show

if TYPE_CHECKING:
    import pandas as pd


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
