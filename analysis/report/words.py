"""The report in words."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from golflab.analysis.comparison.confirmed import in_words as confirmed_in_words
from golflab.analysis.report.climb import in_words
from golflab.analysis.report.findings import Findings
from golflab.model.record import said_damaged


def summary(told: Findings) -> list[str]:
    """The report in words, a sentence or two an item, every number with its error."""
    counts, best, effects = told.counts, told.best, told.contributions
    out = [
        f"{counts['asked']} recipes were asked for. {counts['not_fitting']} of them could not fit the byte limit, so no "
        f"training was spent on that; {counts['trained']} trainings ran, "
        f"{counts['complete']} runs completed, {counts['pruned']} were stopped early ({counts['over_limit']} of them for "
        f"measuring over the limit) and {counts['failed']} failed."
    ]
    if told.climb is not None:
        out.append(in_words(told.climb))
    if damaged := said_damaged(told.table.attrs.get("damaged", [])):
        out.append(damaged)
    if told.climb is not None:  # runs of several scales: none of them is the best
        return out
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
    out += confirmed_in_words(told.confirmed)
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
