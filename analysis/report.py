"""The report of an experiment: as JSON, as text for a terminal, and as one HTML file that opens offline."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.contribution import contribution
from analysis.effects import Model, fit_model
from analysis.ranking import ranking
from analysis.table import load

RANKING = ["technique", "delta_bpb", "se", "low", "high", "p", "p_holm", "q_bh", "runs", "mde", "bytes", "doubt"]
COUNTS = ("asked", "not_fitting", "trained", "over_limit", "pruned", "failed", "complete")


@dataclass
class Report:
    """Everything a report says, as tables.

    Attributes:
        name: of the experiment.
        table: one row per run.
        contributions: of `contribution`.
        recipes: of `ranking`.
        counts: `COUNTS`, whole numbers.
        model: behind the contributions, or None where nothing could be compared.
    """

    name: str
    table: pd.DataFrame
    contributions: pd.DataFrame
    recipes: pd.DataFrame
    counts: dict[str, int]
    model: Model | None = field(repr=False, default=None)

    @property
    def best(self) -> dict[str, Any] | None:
        """The best recipe that fits, with its error, or None if no run completed within its limit."""
        fitting = self.recipes[self.recipes["fits"].astype(bool)]
        return None if fitting.empty else _plain(fitting.iloc[0].to_dict())

    def json(self) -> dict[str, Any]:
        """The object `golflab report --json` prints; unknown numbers are null."""
        rows = self.contributions[RANKING].to_dict("records")
        return {"best": self.best, "ranking": [_plain(r) for r in rows], "counts": self.counts}

    def text(self, console: Any) -> None:
        """Print the summary and the ranking to a `rich` console."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        for sentence in summary(self):
            console.print(sentence, highlight=False)
        runs = self.contributions.attrs["runs"]
        grid = Table(
            title=f"What each technique was worth ({runs} complete runs)", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
        )
        wide = console.width >= 120
        for name in ("technique", "Δ bpb ± 95 %", "q", "runs", "would see", "bytes", *(["doubt"] if wide else [])):
            side: Any = "left" if name in ("technique", "doubt") else "right"
            grid.add_column(name, justify=side, overflow="fold", no_wrap=name in ("Δ bpb ± 95 %", "q", "would see", "bytes"))
        for row in self.contributions.itertuples(index=False):
            known = np.isfinite(row.delta_bpb)
            tint = "" if not known or row.q_bh > 0.05 else ("green" if row.delta_bpb < 0 else "red")
            cells = (
                row.technique,
                _with_error(row.delta_bpb, row.high - row.delta_bpb),
                f"{row.q_bh:.2g}" if known else "–",
                f"{row.runs:.0f}",
                f"{row.mde:.4f}" if np.isfinite(row.mde) else "–",
                f"{row.bytes:+,.0f}" if np.isfinite(row.bytes) else "–",
            )
            grid.add_row(*cells, *([row.doubt] if wide else []), style=tint)
        console.print(grid)
        if not wide:
            for doubt, part in self.contributions[self.contributions["doubt"] != ""].groupby("doubt", sort=False):
                console.print(f"{', '.join(part['technique'])}: {doubt}.", highlight=False)

    def html(self, path: str | Path) -> Path:
        """Write the report as one file with everything inside it, plotly included; it needs no network.

        Raises:
            OSError: the file cannot be written.
        """
        from analysis.page import page

        path = Path(path)
        path.write_text(page(self), encoding="utf-8")
        return path


def report(folder: str | Path) -> Report:
    """Read an experiment's records and work out its report.

    Raises:
        ValueError: there is no such experiment, or it holds no record yet.
    """
    table = load(folder)
    model = fit_model(table)
    return Report(
        name=str(table.attrs["experiment"].get("name") or Path(folder).stem),
        table=table,
        contributions=contribution(table, model=model),
        recipes=ranking(table, model=model),
        counts=count(table),
        model=model,
    )


def count(table: pd.DataFrame) -> dict[str, int]:
    """Recipes asked for, dropped before training because they cannot fit, trained, and how those ended.

    ``over_limit`` were stopped because they measured more than the limit; they are among the pruned.
    """
    told = table.attrs.get("experiment", {}).get("counts", {})
    states = table["state"].value_counts()
    dropped = max(int(told.get("not_fitting", 0)), int(states.get("not_fitting", 0)))
    here = {name: int(states.get(name, 0)) for name in ("pruned", "failed", "complete")}
    trained = int((table["trained"] & (table["state"] != "not_fitting")).sum())
    asked = int(told.get("asked", dropped + sum(here.values())))
    over = int(((table["state"] == "pruned") & (table["bytes"] > table["limit"])).sum())
    over = max(over, int(told.get("over_limit", 0)))
    return {"asked": asked, "not_fitting": dropped, "trained": trained, "over_limit": over, **here}


def summary(told: Report) -> list[str]:
    """The report in words, a sentence or two an item, every number with its error."""
    counts, best, effects = told.counts, told.best, told.contributions
    out = [
        f"{counts['asked']} recipes were proposed; {counts['not_fitting']} could not fit the byte limit and were "
        f"never trained, {counts['trained']} trainings ran, "
        f"{counts['complete']} runs completed, {counts['pruned']} were stopped early ({counts['over_limit']} of them for "
        f"measuring over the limit) and {counts['failed']} failed."
    ]
    if best is None:
        return [*out, "No run completed within its byte limit, so there is no best recipe."]
    limit = float(np.nanmedian(told.table["limit"]))
    size = f"{best['bytes']:,.0f} of {limit:,.0f} bytes" if best["bytes"] and math.isfinite(limit) else "size unknown"
    margin = f" ± {1.96 * best['se']:.4f}" if best["se"] else ""
    seeds = f" over {best['runs']} seeds" if best["runs"] > 1 else ""
    out.append(f"Best that fits: {best['bpb']:.4f}{margin} bits per byte{seeds} in {size} (recipe {best['recipe']}).")
    if best["expected"] and best["runs"] < 2:
        chance = (
            f"; the chance that it really is the best of these is {best['p_best']:.0%}" if best["p_best"] is not None else ""
        )
        out.append(
            f"The best of many noisy scores is partly luck: expect {best['expected']:.4f} from it on a fresh seed{chance}."
        )
    return out + effects_in_words(effects)


def effects_in_words(effects: pd.DataFrame) -> list[str]:
    """What the contribution table shows and what it cannot show."""
    known = effects[effects["se"].notna()]
    clear = known[(known["q_bh"] <= 0.05) & ((known["low"] > 0) | (known["high"] < 0))]
    lines = []
    for part, word in (
        (clear[clear["delta_bpb"] < 0], "Better with"),
        (clear[clear["delta_bpb"] > 0].iloc[::-1], "Worse with"),
    ):
        if len(part):
            lines.append(
                f"{word} (at 5 % false discovery): "
                + ", ".join(f"{r.technique} ({r.delta_bpb:+.4f} ± {r.high - r.delta_bpb:.4f})" for r in part.itertuples())
                + "."
            )
    rest = known.drop(clear.index)
    if len(rest):
        lines.append(
            f"Not distinguishable from zero: {', '.join(rest['technique'])}; these runs would have shown an effect "
            f"of {rest['mde'].median():.4f} or more (80 % power)."
        )
    unknown = effects[effects["se"].isna()]
    if len(unknown):
        lines.append(f"Not identifiable from these runs: {', '.join(unknown['technique'])}.")
    return lines + list(effects.attrs.get("notes", []))


def _with_error(value: float, half: float) -> str:
    """An effect with half its interval, or a dash where there is none."""
    if not np.isfinite(value):
        return "–"
    return f"{value:+.4f} ± {half:.4f}" if np.isfinite(half) else f"{value:+.4f} ± ?"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """JSON values: numpy scalars unwrapped, what is not finite null, counts whole."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        out[key] = int(value) if key in ("runs", "seed") and value is not None else value
    return out
