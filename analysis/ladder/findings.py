"""A ladder's findings: what its techniques will do at full scale, as tables, JSON and text for a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from golflab.analysis.ladder.advice import LIKELY, further_runs
from golflab.analysis.ladder.forecast import Ladder, fit, predict
from golflab.analysis.ladder.runs import candidates, differences

WIDE = 120  # columns of a terminal that shows the whole table
NO_CHANCE = 0.005


@dataclass(frozen=True)
class LadderFindings:
    """What a ladder found.

    Attributes:
        model: the fitted ladder.
        predictions: of `golflab.analysis.ladder.forecast.predict`, with the columns of
            `golflab.analysis.ladder.advice.further_runs`.
    """

    model: Ladder
    predictions: pd.DataFrame


def ladder_findings(table: pd.DataFrame) -> LadderFindings | None:
    """Fit a ladder to an experiment's runs; None where it is no ladder, or too little of it has run for an error."""
    told = table.attrs.get("experiment", {})
    if told.get("design", told.get("options", {}).get("design")) != "ladder":
        return None
    return findings_of(differences(table))


def findings_of(found: pd.DataFrame) -> LadderFindings | None:
    """Fit a ladder to paired differences; None where they are too few for an error.

    Args:
        found: of `golflab.analysis.ladder.runs.paired`.
    """
    if not found["se"].notna().any() or found[["parameters", "tokens_per_parameter"]].drop_duplicates().shape[0] < 2:
        return None
    model = fit(found)
    further = further_runs(model, candidates(found))
    return LadderFindings(model, predict(model).merge(further, on="technique"))


def json_rows(found: LadderFindings) -> list[dict[str, Any]]:
    """The predictions as JSON values; what is not finite is null."""
    rows = found.predictions.astype(object).where(found.predictions.notna(), None).to_dict("records")
    return [{str(k): v.item() if isinstance(v, np.generic) else v for k, v in row.items()} for row in rows]


def shown(found: LadderFindings) -> pd.DataFrame:
    """The table a reader sees: effects with their intervals, the verdict, and the run that would change it."""
    rows = [
        {
            "technique": row.technique,
            "verdict": row.verdict,
            "Δ bpb at full scale": f"{row.delta_full:+.4f}",
            "90 % prediction": f"{row.low:+.4f} … {row.high:+.4f}",
            "P(helps)": f"{row.p_helps:.2f}",
            "middle of the ladder": f"{row.delta_ladder:+.4f} ± {row.ladder_sd:.4f}",
            "smallest rung": f"{row.smallest:+.4f}",
            "largest rung": f"{row.largest:+.4f}",
            "cheapest further run": _further(row),
        }
        for row in found.predictions.itertuples(index=False)
    ]
    return pd.DataFrame(rows)


def ladder_in_words(found: LadderFindings) -> str:
    """How many techniques got which verdict."""
    table = found.predictions
    told = [f"{verdict}: {', '.join(rows['technique'])}" for verdict, rows in table.groupby("verdict", sort=False)]
    return f"Predicted at full scale, of {len(table)} techniques. " + "; ".join(told) + "."


def ladder_text(found: LadderFindings, console: Any) -> None:
    """Print the predictions to a `rich` console, and below them the further runs."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = shown(found)
    further = table.pop("cheapest further run")
    if console.width < WIDE:
        table = table[["technique", "verdict", "Δ bpb at full scale", "90 % prediction"]]
    grid = Table(title="Predicted effects at full scale", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in table.columns:
        grid.add_column(name, no_wrap=True)
    for row in table.itertuples(index=False):
        grid.add_row(*map(str, row))
    console.print(grid)
    console.print("Cheapest further run that would change the verdict:")
    for name, run in zip(table["technique"], further, strict=True):
        console.print(f"  {name}: {run}", highlight=False)


def _further(row: Any) -> str:
    minutes = row.further_seconds / 60
    took = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
    run = (
        f"{row.further_scale}, {row.further_tokens_per_parameter:.3g} tokens per parameter, {row.further_seeds} seed(s): {took}"
    )
    if row.further_chance < NO_CHANCE:
        return "none of these rungs"
    return run if row.further_chance >= LIKELY else f"none is likely to; most likely {run} ({row.further_chance:.0%})"
