"""The report of an experiment: as JSON, as text for a terminal, and as one HTML file that opens offline."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.confirmed import confirmed, in_words
from analysis.contribution import contribution
from analysis.effects import Model, fit_model
from analysis.files import write_whole
from analysis.finishings import finishings
from analysis.ranking import ranking
from analysis.reading import located
from analysis.table import read
from model.record import said_damaged

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
        finishings: of `analysis.finishings.finishings`: what acts after training, paired; empty where nothing was compared.
        confirmed: of `analysis.confirmed.confirmed`: the best found against the preset on fresh seeds; empty if it was not run.
    """

    name: str
    table: pd.DataFrame
    contributions: pd.DataFrame
    recipes: pd.DataFrame
    counts: dict[str, int]
    model: Model | None = field(repr=False, default=None)
    finishings: pd.DataFrame = field(repr=False, default_factory=pd.DataFrame)
    confirmed: pd.DataFrame = field(repr=False, default_factory=pd.DataFrame)

    @property
    def best(self) -> dict[str, Any] | None:
        """The best recipe that fits, with its error, or None if no run completed within its limit."""
        fitting = self.recipes[self.recipes["fits"].astype(bool)]
        return None if fitting.empty else _plain(fitting.iloc[0].to_dict())

    def json(self) -> dict[str, Any]:
        """The object `golflab report --json` prints; unknown numbers are null."""
        rows = self.contributions[RANKING].to_dict("records")
        told = {"best": self.best, "ranking": [_plain(r) for r in rows], "counts": self.counts}
        for name in ("finishings", "confirmed"):  # only where there are any
            if len(found := getattr(self, name)):
                told[name] = [_plain(r) for r in found.to_dict("records")]
        return told

    @property
    def identified(self) -> bool:
        """Whether the runs can tell any technique's effect from the others'."""
        return bool(self.contributions["se"].notna().any())

    def unidentified(self) -> str:
        """Why no technique's effect can be given, and what to type."""
        count, runs = len(self.contributions), self.contributions.attrs["runs"]
        if not count:
            return "No technique varied between these runs, so there is no effect to estimate."
        resume = str(self.table.attrs["experiment"].get("resume", ""))
        wanted = max(40, 2 * count + 4, 2 * len(self.table))
        next_step = f"Continue with `{resume} --trials {wanted}`." if resume else "Run more combinations."
        return (
            f"These {runs} complete runs cannot tell apart the {count} techniques that varied: at least {count + 2} are "
            f"needed. {next_step}"
        )

    def text(self, console: Any) -> None:
        """Print the summary and the ranking to a `rich` console."""
        for sentence in summary(self):
            console.print(sentence, highlight=False)
        if self.identified:
            console.print(self._ranking_grid(console.width >= 120))
            if console.width < 120:
                for doubt, part in self.contributions[self.contributions["doubt"] != ""].groupby("doubt", sort=False):
                    console.print(f"{', '.join(part['technique'])}: {doubt}.", highlight=False)
        if len(self.finishings):
            console.print(self._finishing_grid())

    def _ranking_grid(self, wide: bool) -> Any:
        """What acts in training: a `rich` table."""
        shown = self.contributions[self.contributions["se"].notna() | wide]
        names = ("technique", "Δ bpb ± 95 %", "q", "runs", "detectable", "bytes", *(["doubt"] if wide else []))
        grid = _grid(f"What each technique was worth ({self.contributions.attrs['runs']} complete runs)", names)
        for row in shown.itertuples(index=False):
            known = np.isfinite(row.delta_bpb)
            cells = (
                row.technique,
                _with_error(row.delta_bpb, row.high - row.delta_bpb),
                f"{row.q_bh:.2g}" if known else "–",
                f"{row.runs:.0f}",
                f"{row.mde:.4f}" if np.isfinite(row.mde) else "–",
                f"{row.bytes:+,.0f}" if np.isfinite(row.bytes) else "–",
            )
            grid.add_row(*cells, *([row.doubt] if wide else []), style=_tint(row.delta_bpb, row.q_bh))
        return grid

    def _finishing_grid(self) -> Any:
        """What acts after training: a `rich` table."""
        count = int(self.finishings["trainings"].max())
        title = f"What acts after training was worth, on the same weights and text ({count} trainings)"
        grid = _grid(title, ("technique", "Δ bpb ± 95 %", "q", "bytes", "instead of"))
        for row in self.finishings.itertuples(index=False):
            exact = row.se == 0 == row.delta_bpb  # a codec changes no weight
            cells = (
                row.technique + (f" beside {row.beside}" if row.beside else ""),
                "0, exactly" if exact else _with_error(row.delta_bpb, row.high - row.delta_bpb),
                "" if exact else f"{row.q_bh:.2g}" if np.isfinite(row.q_bh) else "–",
                f"{row.bytes:+,.0f}",
                row.instead_of,
            )
            grid.add_row(*cells, style=_tint(row.delta_bpb, row.q_bh))
        return grid

    def html(self, path: str | Path) -> Path:
        """Write the report as one file with everything inside it, plotly included; it needs no network.

        Raises:
            OSError: the file cannot be written.
        """
        from analysis.page import page

        return write_whole(Path(path), page(self))


def report(folder: str | Path) -> Report:
    """Read an experiment's records and work out its report.

    Raises:
        ValueError: there is no such experiment, or it holds no record yet.
    """
    table = read(located(folder))
    model = fit_model(table)
    recipes = ranking(table, model=model)
    best = recipes.loc[recipes["fits"].astype(bool), "recipe"].head(1)
    return Report(
        name=Path(folder).resolve().name if Path(folder).is_dir() else Path(folder).stem,
        table=table,
        contributions=contribution(table, model=model),
        recipes=recipes,
        counts=count(table),
        model=model,
        finishings=finishings(table),
        confirmed=confirmed(folder, best.iloc[0], float(np.nanmedian(table["limit"]))) if len(best) else pd.DataFrame(),
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
        f"{counts['asked']} recipes were asked for. {counts['not_fitting']} of them could not fit the byte limit, so no "
        f"training was spent on that; {counts['trained']} trainings ran, "
        f"{counts['complete']} runs completed, {counts['pruned']} were stopped early ({counts['over_limit']} of them for "
        f"measuring over the limit) and {counts['failed']} failed."
    ]
    if damaged := said_damaged(told.table.attrs.get("damaged", [])):
        out.append(damaged)
    if refusal := told.table.attrs["experiment"].get("refusal"):
        size = refusal["bytes"]
        out.append(
            f"The first combination refused for its size was {refusal['words']}: it needs about {size['mid']:,.0f} bytes "
            f"({size['low']:,.0f} to {size['high']:,.0f}), and {refusal['limit']:,} are allowed."
        )
    if best is None:
        return [*out, "No run completed within its byte limit, so there is no best recipe."]
    limit = float(np.nanmedian(told.table["limit"]))
    size = f"{best['bytes']:,.0f} of {limit:,.0f} bytes" if best["bytes"] and math.isfinite(limit) else "size unknown"
    margin = f" ± {best['high'] - best['bpb']:.4f}" if best["high"] is not None else ""
    seeds = f" over {best['runs']} seeds" if best["runs"] > 1 else ""
    out.append(f"Best that fits: {best['bpb']:.4f}{margin} bits per byte{seeds} in {size} (recipe {best['recipe']}).")
    if best["expected"] is not None and best["runs"] < 2 and f"{best['expected']:.4f}" != f"{best['bpb']:.4f}":
        chance = (
            f"; the chance that it really is the best of these is {best['p_best']:.0%}" if best["p_best"] is not None else ""
        )
        out.append(
            f"The best of many noisy scores is partly luck: expect {best['expected']:.4f} from it on a fresh seed{chance}."
        )
    out += in_words(told.confirmed)
    if not told.identified:
        return [*out, told.unidentified()]
    return out + effects_in_words(effects) + finishings_in_words(told.finishings)


def finishings_in_words(table: pd.DataFrame) -> list[str]:
    """What acts after training, in sentences."""
    if table.empty:
        return []
    clear = table[(table["q_bh"] <= 0.05) & (table["se"] > 0)]
    told = ", ".join(
        f"{r.technique} ({r.delta_bpb:+.5f} ± {r.high - r.delta_bpb:.5f} bits per byte, {r.bytes:+,.0f} bytes)"
        for r in clear.itertuples()
    )
    lines = [
        f"After training, on the same weights: {told}." if told else "After training no technique changed the score clearly."
    ]
    free = table[(table["se"] == 0) & (table["delta_bpb"] == 0)]
    if len(free):
        sizes = ", ".join(f"{r.technique} {r.bytes:+,.0f} ± {r.bytes_high - r.bytes:,.0f}" for r in free.itertuples())
        lines.append(f"These change bytes only, never the score: {sizes} bytes.")
    return lines


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
    unknown = effects[effects["se"].isna() & ~effects["doubt"].str.startswith("the reference of its slot")]
    if len(unknown):
        lines.append(f"Not identifiable from these runs: {', '.join(unknown['technique'])}.")
    return lines + list(effects.attrs.get("notes", []))


def _grid(title: str, names: tuple[str, ...]) -> Any:
    """An empty `rich` table: words to the left, numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        words = name in ("technique", "doubt", "instead of")
        grid.add_column(
            name, justify="left" if words else "right", overflow="fold", no_wrap=name not in ("doubt", "instead of")
        )
    return grid


def _tint(delta: float, q: float) -> str:
    """Green for what clearly helps, red for what clearly hurts."""
    return "" if not np.isfinite(delta) or not q <= 0.05 or delta == 0 else ("green" if delta < 0 else "red")


def _with_error(value: float, half: float, digits: int = 4) -> str:
    """An effect with half its interval, or a dash where there is none."""
    if not np.isfinite(value):
        return "–"
    return f"{value:+.{digits}f} ± {half:.{digits}f}" if np.isfinite(half) else f"{value:+.{digits}f} ± ?"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """JSON values: numpy scalars unwrapped, what is not finite null, counts whole."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        out[key] = int(value) if key in ("runs", "seed") and value is not None else value
    return out
