"""Sections of the page about runs: the best of them, bytes, curves, failures, and how they were run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from golflab.analysis.comparison.frontier import frontier, shadow_price
from golflab.analysis.effects.contribution import needed_runs
from golflab.analysis.effects.machines import machines_in_words
from golflab.analysis.effects.rungs import agreement
from golflab.analysis.report import plots
from golflab.analysis.report.findings import Findings
from golflab.analysis.report.parts import number, section, signed, small
from golflab.analysis.report.words import counts_in_words
from golflab.model.system.wording import number_of

ROWS_AT_MOST = 25


def best_confirmed(findings: Findings) -> dict[str, Any]:
    """The best recipe against the preset on fresh seeds; empty if nothing was confirmed."""
    table = findings.confirmed
    if table.empty:
        return {}
    shown = pd.DataFrame(
        {
            "against": table["preset"],
            "found, bpb": number(table["found_bpb"]),
            "preset, bpb": number(table["preset_bpb"]),
            "Δ bpb": signed(table["delta_bpb"]),
            "± 95 %": number(table["high"] - table["delta_bpb"]),
            "p": small(table["p"]),
            "seeds": table["seeds"],
            "documents": table["documents"],
            "largest bytes": [f"{v:,.0f}" for v in table["bytes"]],
            "over the limit on": [number_of(v, "seed") if v else "–" for v in table["over"]],
            "doubt": table["doubt"],
        }
    )
    lead = (
        "The best recipe of a search was chosen for its score, so its score is too good. Here it and the preset were trained "
        "again with seeds that no trial had, and scored on the test part, which no search sees. Differences are paired by seed "
        "and document."
    )
    return section("The best found, confirmed", lead, tables=[("", shown)])


def recipes(findings: Findings) -> dict[str, Any]:
    """The ten best recipes."""
    top = findings.recipes.head(10)
    if top.empty:
        return {}
    shown = pd.DataFrame(
        {
            "recipe": top["recipe"],
            "bpb": [f"{v:.4f}" for v in top["bpb"]],
            "± 95 %": number(top["high"] - top["bpb"]),
            "expected again": number(top["expected"]),
            "is the best": [f"{v:.0%}" if np.isfinite(v) else "–" for v in top["p_best"]],
            "seeds": top["runs"],
            "bytes": [f"{v:,.0f}" for v in top["bytes"]],
            "doubt": top["doubt"],
            "techniques": top["techniques"],
        }
    )
    lead = (
        "The ten best recipes. The best of many noisy scores is partly luck. “Expected again” is the estimate without this "
        "luck; “is the best” is the probability of being the best of those that fit."
    )
    return section("The best recipes", lead, tables=[("", shown)])


def bytes_and_score(findings: Findings) -> dict[str, Any]:
    """The frontier of bytes and bits per byte."""
    table = frontier(findings.table, recipes=findings.recipes)
    if len(table) < 2:
        return {}
    price = shadow_price(findings.table, recipes=findings.recipes).iloc[0]
    table["named"] = table["recipe"].map(findings.table.attrs["experiment"].get("presets", {})).fillna("")
    lead = "Every completed recipe by its packed bytes. The line joins the efficient ones: no other is better in both."
    if np.isfinite(price["bpb_per_kb"]):
        unsure = f", {price['doubt']}" if price["doubt"] else ""
        lead += (
            f" At the limit one more kilobyte is worth {price['bpb_per_kb']:+.5f} bits per byte (95 %: "
            f"{price['low']:+.5f} … {price['high']:+.5f}{unsure})."
        )
    return section("Bytes against bits per byte", lead, [plots.frontier(table, float(np.nanmedian(findings.table["limit"])))])


def forecasts(findings: Findings) -> dict[str, Any]:
    """How well bytes were forecast."""
    known = findings.table[
        findings.table["bytes"].notna() & findings.table["forecast_mid"].notna() & (findings.table["state"] == "complete")
    ]
    if known.empty:
        return {}
    known = known.assign(bytes=known["bytes"].astype(float))
    error = known["bytes"] / known["forecast_mid"] - 1
    inside = ((known["bytes"] >= known["forecast_low"]) & (known["bytes"] <= known["forecast_high"])).mean()
    over = int((known["bytes"] > known["limit"]).sum())
    lead = (
        f"Forecast error (measured bytes relative to the forecast made before training): mean {error.mean():+.2%}, root mean "
        f"square {np.sqrt((error**2).mean()):.2%}, worst {error.iloc[int(np.argmax(error.abs()))]:+.2%} "
        f"over {number_of(len(known), 'run')}; {inside:.0%} fell inside the forecast's interval. Over the limit at the end: "
        f"{over}."
    )
    return section("Forecast and true bytes", lead, [plots.forecasts(known)])


def curves(findings: Findings) -> dict[str, Any]:
    """Learning curves, and how well rungs predict the final score."""
    if not any(len(c) > 1 for c in findings.table["curve"]):
        return {}
    rungs = agreement(findings.table)
    shown = pd.DataFrame(
        {
            "rung": [f"{v:.0%}" for v in rungs["rung"]],
            "rank correlation with the end": [f"{v:.2f}" for v in rungs["spearman"]],
            "95 %": [f"{a:.2f} … {b:.2f}" for a, b in zip(rungs["low"], rungs["high"], strict=True)],
            "runs": rungs["runs"],
            "doubt": rungs["doubt"],
        }
    )
    return section(
        "Learning curves",
        "Training loss by tokens; the best run is highlighted.",
        [plots.curves(findings.table)],
        [("Does an early score predict the final one?", shown)],
    )


def budget(findings: Findings) -> dict[str, Any]:
    """What the recipes became, and the seconds of each stage."""
    table = findings.table
    stages = {str(c)[6:]: table[c].sum() for c in table if str(c).startswith("stage.")}
    counts = findings.counts
    shared = counts["complete"] + counts["pruned"] + counts["failed"] - counts["trained"]
    lead = counts_in_words(counts)
    lead += f" {number_of(shared, 'run')} reused a training from the stage cache." if shared > 0 else ""
    shown = pd.DataFrame({"stage": stages.keys(), "seconds in all": [f"{v:,.1f}" for v in stages.values()]})
    return section("Where the budget went", lead, [plots.budget(counts)], [("", shown)])


def failures(findings: Findings) -> dict[str, Any]:
    """Runs that did not complete, by reason."""
    bad = findings.table[findings.table["state"].isin(["failed", "pruned"])]
    if bad.empty:
        return section("Failures", "No run failed and none was stopped early.")
    grouped = (
        bad.groupby(["state", bad["reason"].fillna("").astype(str)])
        .agg(runs=("recipe", "size"), example=("recipe", "first"))
        .reset_index()
    )
    grouped = grouped.sort_values("runs", ascending=False).head(ROWS_AT_MOST)
    return section("Failures", "Runs that did not complete, by reason.", tables=[("", grouped)])


def machine(findings: Findings) -> dict[str, Any]:
    """Options, versions and hardware."""
    attrs, experiment = findings.table.attrs, findings.table.attrs["experiment"]
    facts = {
        k: v
        for k, v in (experiment | experiment.get("options", {})).items()
        if not isinstance(v, dict | list) and v not in (None, "")
    }
    facts |= {
        k: ", ".join(f"{value} ({number_of(runs, 'run')})" if len(seen) > 1 else value for value, runs in seen.items())
        for k, seen in attrs["machines"].items()
    }
    conditions = findings.table["condition"].value_counts()
    facts |= {"conditions": "; ".join(f"{c} ({number_of(n, 'run')})" for c, n in conditions.items())}
    facts |= {
        "seeds": ", ".join(f"{s:g}" for s in sorted(findings.table["seed"].dropna().unique())[:40]),
        "techniques every run had": ", ".join(attrs["always"]) or "none",
    }
    spread = findings.contributions.attrs["machine_spread"]
    facts |= {"spread between machines": machines_in_words(spread)}
    facts |= {"byte limit": ", ".join(f"{v:,.0f}" for v in sorted(findings.table["limit"].dropna().unique()))}
    shown = pd.DataFrame({"what": facts.keys(), "value": [str(v) for v in facts.values()]})
    tables = [("", shown)]
    if findings.contributions.attrs.get("adaptive"):
        runs = needed_runs(findings.table).head(8)
        tables.append(
            (
                "Runs that would remove the bias of the search (the best recipe with one technique switched, fresh seeds)",
                runs.assign(se=number(runs["se"])),
            )
        )
    return section(
        "How it was run",
        "Everything needed to run it again; each run's full recipe is in the folder of its record.",
        tables=tables,
    )
