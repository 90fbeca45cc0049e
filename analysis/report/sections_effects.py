"""Sections of the page about techniques, pairs of techniques, and knobs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from golflab.analysis.effects.contribution import contribution
from golflab.analysis.effects.interaction import interaction, matrix, removal
from golflab.analysis.effects.knobs import response
from golflab.analysis.inference.intervals import half_width
from golflab.analysis.report import plots
from golflab.analysis.report.findings import Findings
from golflab.analysis.report.parts import bytes_text, number, section, signed, small
from golflab.model.system.wording import number_of


def contributions(findings: Findings) -> dict[str, Any]:
    """The effect of each technique: figure and table."""
    table, attrs = findings.contributions, findings.contributions.attrs
    if not findings.identified:
        return section("What each technique was worth", findings.unidentified())
    known = table[table["delta_bpb"].notna()]
    alone = len(known) and known["doubt"].str.contains("together with all other").all()
    company = "together with all others" if alone else "averaged over all settings of the others"
    lead = (
        f"The change in bits per byte when a technique is switched on, {company}, with its 95 % interval. Grey is not "
        f"distinguishable from zero at 5 % false discovery. {attrs['runs']} complete runs; errors: {attrs['errors']}, "
        f"{attrs['df']:.0f} degrees of freedom, standard deviation of one run {attrs['sigma']:.4f}."
    )
    lead += " “Detectable” is the smallest detectable effect (80 % power)."
    if attrs.get("adjusted"):
        lead += f" Adjusted for {', '.join(attrs['adjusted'])}."
    shown = pd.DataFrame(
        {
            "technique": table["technique"],
            "Δ bpb": signed(table["delta_bpb"]),
            "± 95 %": number(table["high"] - table["delta_bpb"]),
            "BH q": small(table["q_bh"]),
            "detectable": number(table["mde"]),
            "runs on / off": [f"{a:.0f} / {b:.0f}" for a, b in zip(table["runs"], table["runs_off"], strict=True)],
            "Δ bytes": bytes_text(table["bytes"], half_width(table["bytes_se"], attrs["df"])),
            "doubt": table["doubt"].fillna(""),
            "Holm p": small(table["p_holm"]),
            "p": small(table["p"]),
            "Δ bpb per kB": signed(table["delta_per_kb"], 5),
            "Δ seconds": signed(table["seconds"], 1),
            "by rung": table["sign_by_rung"].fillna(""),
        }
    )
    return section(
        "What each technique was worth",
        lead,
        [plots.contributions(table)] if table["delta_bpb"].notna().any() else [],
        [("", shown), *_without_outliers(findings)],
    )


def _without_outliers(findings: Findings) -> list[tuple[str, pd.DataFrame]]:
    """The same effects without the runs that lie far from the others; nothing if there are none."""
    far = findings.contributions.attrs.get("outliers", [])
    if not far:
        return []
    clean = contribution(findings.table, outliers=False)
    shown = pd.DataFrame(
        {
            "technique": clean["technique"],
            "Δ bpb": signed(clean["delta_bpb"]),
            "± 95 %": number(clean["high"] - clean["delta_bpb"]),
            "BH q": small(clean["q_bh"]),
        }
    )
    return [(f"Without the outliers ({number_of(len(far), 'run')} far from what all others say)", shown)]


def after_training(findings: Findings) -> dict[str, Any]:
    """Techniques that act after training; empty if none was compared."""
    table = findings.finishings
    if table.empty:
        return {}
    lead = (
        "Every training was finished in several ways: quantised, packed and scored with a technique and without it. The two "
        "sides of a comparison share their trained weights and their text. In the table above every run is another training, "
        "and two trainings differ by chance much more than two ways to finish one training. So the errors here are smaller. "
        f"Each difference is an average over {number_of(table['trainings'].max(), 'training')}, each scored on its own part of "
        "text."
    )
    exact = (table["se"] == 0) & (table["delta_bpb"] == 0)
    shown = pd.DataFrame(
        {
            "technique": table["technique"],
            "instead of": table["instead_of"],
            "beside": table["beside"],
            "Δ bpb": np.where(exact, "0, exactly", signed(table["delta_bpb"], 5)),
            "± 95 %": np.where(exact, "", number(table["high"] - table["delta_bpb"], 5)),
            "BH q": np.where(exact, "", small(table["q_bh"])),
            "Δ bytes": bytes_text(table["bytes"], (table["bytes_high"] - table["bytes"]).to_numpy()),
            "trainings": table["trainings"],
            "doubt": table["doubt"],
        }
    )
    beside = [f"{t} (beside {b})" if b else t for t, b in zip(table["technique"], table["beside"], strict=True)]
    drawn = table.assign(technique=beside, runs=table["trainings"])
    return section("What acts after training", lead, [plots.contributions(drawn)], [("", shown)])


def pairs(findings: Findings) -> dict[str, Any]:
    """Interactions, and what the best recipe would lose without its techniques."""
    if findings.model is None or len(findings.model.names) < 2:
        return {}
    table = interaction(findings.model)
    clear = table[(table["q_bh"] <= 0.05) | table["in_model"]]
    known = table[table["delta_bpb"].notna()]
    if known.empty:
        return section(
            "Interactions",
            (
                "These runs cannot separate the joint effect of any two techniques from their single effects. "
                "A folded screen (`--design screen`) or `--design pairs` can."
            ),
        )
    words = ", ".join(f"{r.a} × {r.b} ({r.delta_bpb:+.4f} ± {r.high - r.delta_bpb:.4f})" for r in clear.itertuples())
    lead = "The effect of two techniques together minus the sum of their single effects; negative means that they help each "
    lead += "other. In the map, every estimate is shrunk by its own error. "
    if words:
        lead += f"Clear pairs: {words}."
    else:
        lead += f"None of {len(table)} pairs is distinguishable from zero; the median smallest detectable effect "
        lead += f"is {known['mde'].median():.4f}."
    first = table.head(10 if words else 6)
    shown = pd.DataFrame(
        {
            "pair": first["a"] + " × " + first["b"],
            "Δ bpb": signed(first["delta_bpb"]),
            "± 95 %": number(first["high"] - first["delta_bpb"]),
            "BH q": small(first["q_bh"]),
            "runs with both": first["runs"],
            "detectable": number(first["mde"]),
            "doubt": first["doubt"],
        }
    )
    preset = _best_names(findings)
    tables = [("Strongest pairs", shown)]
    if preset:
        lost = removal(findings.model, preset)
        out = pd.DataFrame(
            {
                "technique": lost["technique"],
                "if removed first": signed(lost["loses_first"]),
                "if removed last": signed(lost["loses_last"]),
                "average over orders": signed(lost["average"]),
                "range over orders": [f"{a:+.4f} … {b:+.4f}" for a, b in zip(lost["least"], lost["most"], strict=True)],
                "lost up to here": [f"{v:+.4f} ± {h - v:.4f}" for v, h in zip(lost["path"], lost["path_high"], strict=True)],
            }
        )
        tables.append(
            (
                (
                    "What the best recipe would lose if techniques were removed, in the best order of removal (positive: "
                    "bits per byte lost)"
                ),
                out,
            )
        )
    square = matrix(table[table["a"].isin(_leading(findings)) & table["b"].isin(_leading(findings))])
    return section("Interactions", lead, [plots.pairs(square)] if len(square) > 2 else [], tables)


def _leading(findings: Findings, most: int = 16) -> list[str]:
    """The techniques with the largest effects, as many as a heat map can show."""
    ordered = findings.contributions.dropna(subset=["delta_bpb"]).sort_values("delta_bpb", key=np.abs, ascending=False)
    return list(ordered["technique"].head(most))


def _best_names(findings: Findings) -> list[str]:
    """The varying techniques of the best recipe."""
    best = findings.best
    names = best["techniques"].split(", ") if best and best["techniques"] else []
    return [
        n
        for n in names
        if findings.model is not None
        and n in findings.model.names
        and np.isfinite(findings.model.fit.beta[findings.model.columns[n]])
    ]


def knobs(findings: Findings) -> dict[str, Any]:
    """Response curves of the four knobs with the smallest p-values."""
    table = response(findings.table, model=findings.model)
    known = table.groupby("knob")["p"].first().sort_values().head(4) if len(table) else pd.Series(dtype=float)
    if known.empty:
        return {}
    lead = "The score as a function of each knob while its technique is on, adjusted for the rest of the recipe (band: 95 %). "
    lead += (
        "; ".join(
            f"{k}: {table.loc[table['knob'] == k, 'doubt'].iloc[0] or 'a clear response'} (p {p:.2g})" for k, p in known.items()
        )
        + "."
    )
    return section("Knobs", lead, [plots.response(table, k) for k in known.index])
