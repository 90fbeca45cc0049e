"""The report in sentences."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from golflab.analysis.comparison.confirmed import in_words
from golflab.analysis.ladder.findings import ladder_in_words
from golflab.analysis.report.findings import Findings
from golflab.model.record import damaged_in_words
from golflab.model.system.wording import number_of, was


def summary(findings: Findings) -> list[str]:
    """The report in sentences; every number has its error."""
    counts, best, effects = findings.counts, findings.best, findings.contributions
    out = [counts_in_words(counts)]
    if damaged := damaged_in_words(findings.table.attrs.get("damaged", [])):
        out.append(damaged)
    if findings.ladder is not None:  # runs of several scales: none of them is the best
        return [*out, ladder_in_words(findings.ladder)]
    if refusal := findings.table.attrs["experiment"].get("refusal"):
        size = refusal["bytes"]
        out.append(
            f"The first combination refused for its size was {refusal['words']}: its forecast is {size['mid']:,.0f} bytes "
            f"({size['low']:,.0f} to {size['high']:,.0f}); the limit is {refusal['limit']:,}."
        )
    if best is None:
        return [*out, "No run completed within its byte limit, so there is no best recipe."]
    limit = float(np.nanmedian(findings.table["limit"]))
    size = f"{best['bytes']:,.0f} of {limit:,.0f} bytes" if best["bytes"] and math.isfinite(limit) else "size unknown"
    margin = f" ± {best['high'] - best['bpb']:.4f}" if best["high"] is not None else ""
    seeds = f" over {best['runs']} seeds" if best["runs"] > 1 else ""
    out.append(f"Best that fits: {best['bpb']:.4f}{margin} bits per byte{seeds} in {size} (recipe {best['recipe']}).")
    if best["expected"] is not None and best["runs"] < 2 and f"{best['expected']:.4f}" != f"{best['bpb']:.4f}":
        chance = (
            f"; the probability that it is really the best of these is {chance_in_words(best['p_best'])}"
            if best["p_best"] is not None
            else ""
        )
        out.append(f"The best of many noisy scores is partly luck: on a fresh seed, expect {best['expected']:.4f}{chance}.")
    out += in_words(findings.confirmed)
    if not findings.identified:
        return [*out, findings.unidentified()]
    return out + effects_in_words(effects) + finishings_in_words(findings.finishings)


def chance_in_words(p: float) -> str:
    """A probability that was estimated by drawing: no number of draws shows that something is certain."""
    return "more than 99%" if p > 0.99 else "less than 1%" if p < 0.01 else f"{p:.0%}"


def counts_in_words(counts: dict[str, int]) -> str:
    """How many recipes were considered, and how they ended (`golflab.analysis.report.findings.count`), in sentences."""
    refused, pruned = counts["not_fitting"], counts["pruned"]
    size = f"{refused} of them could not fit the byte limit and {was(refused)} not trained." if refused else ""
    over = f" ({counts['over_limit']} of them because the measured bytes exceeded the limit)" if pruned else ""
    return (
        f"The search considered {number_of(counts['asked'], 'recipe')}. {size or 'None was refused for its size.'} "
        f"{number_of(counts['trained'], 'training')} ran; {number_of(counts['complete'], 'run')} completed, {pruned} "
        f"{was(pruned)} stopped early{over}, and {counts['failed']} failed."
    )


def finishings_in_words(table: pd.DataFrame) -> list[str]:
    """The effects of techniques that act after training, in sentences."""
    if table.empty:
        return []
    clear = table[(table["q_bh"] <= 0.05) & (table["se"] > 0)]
    effects = ", ".join(
        f"{r.technique} ({r.delta_bpb:+.5f} ± {r.high - r.delta_bpb:.5f} bits per byte, {r.bytes:+,.0f} bytes)"
        for r in clear.itertuples()
    )
    lines = [
        f"After training, on the same weights: {effects}."
        if effects
        else "No technique that acts after training changed the score clearly."
    ]
    free = table[(table["se"] == 0) & (table["delta_bpb"] == 0)]
    if len(free):
        sizes = ", ".join(f"{r.technique} {r.bytes:+,.0f} ± {r.bytes_high - r.bytes:,.0f}" for r in free.itertuples())
        lines.append(f"These change only the bytes, never the score: {sizes} bytes.")
    return lines


def effects_in_words(effects: pd.DataFrame) -> list[str]:
    """What the contribution table shows, and what it cannot show."""
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
            f"Not distinguishable from zero: {', '.join(rest['technique'])}; their median smallest "
            f"detectable effect is {rest['mde'].median():.4f} (80 % power)."
        )
    unknown = effects[effects["se"].isna() & ~effects["doubt"].str.startswith("the reference of its slot")]
    if len(unknown):
        lines.append(f"Not identifiable from these runs: {', '.join(unknown['technique'])}.")
    return lines + list(effects.attrs.get("notes", []))
