"""The report as one HTML page: figures, tables and words put into the template beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from analysis import plots
from analysis.contribution import needed_runs
from analysis.frontier import frontier, shadow_price
from analysis.interaction import interaction, matrix, removal
from analysis.intervals import half_width
from analysis.knobs import response
from analysis.rungs import agreement

if TYPE_CHECKING:
    from analysis.report import Report

ROWS_AT_MOST = 25


def page(told: Report) -> str:
    """The whole page as text."""
    from analysis.report import summary

    return render(told.name, summary(told), _cards(told), _sections(told))


def render(name: str, sentences: list[str], cards: list[tuple[str, str, str]], sections: list[dict[str, Any]]) -> str:
    """One self-contained HTML page, plotly included.

    Args:
        name: the headline.
        sentences: what a reader should know first.
        cards: label, value and remark of the few numbers that matter most.
        sections: of `section`, in reading order.
    """
    import jinja2

    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        name=name, sentences=sentences, cards=cards, sections=sections, plotly=get_plotlyjs()
    )


def _cards(told: Report) -> list[tuple[str, str, str]]:
    """The few numbers a reader wants first: label, value, remark."""
    best, limit = told.best, float(np.nanmedian(told.table["limit"]))
    seconds = told.table.loc[told.table["trained"], "seconds"].sum()
    cards = []
    if best:
        error = f"± {best['high'] - best['bpb']:.4f}" if best["high"] is not None else "error unknown"
        cards.append(("best bits per byte", f"{best['bpb']:.4f}", error))
        if best["bytes"]:
            cards.append(("its bytes", f"{best['bytes']:,.0f}", f"{best['bytes'] / limit:.1%} of {limit:,.0f}"))
    clear = told.contributions
    real = int(((clear["q_bh"] <= 0.05) & ((clear["low"] > 0) | (clear["high"] < 0))).sum())
    cards.append(("clear effects", f"{real} of {len(clear)}", "techniques, at 5 % false discovery"))
    cards.append(
        (
            "trainings",
            f"{told.counts['trained']}",
            f"{seconds / 3600:.1f} h of training" if seconds >= 5400 else f"{seconds / 60:.0f} min of training",
        )
    )
    return cards


def _sections(told: Report) -> list[dict[str, Any]]:
    """Title, lead, figures and tables of each section, in reading order; empty ones are left out."""
    parts = [
        _ranking(told),
        _after_training(told),
        _confirmed(told),
        _recipes(told),
        _pairs(told),
        _frontier(told),
        _knobs(told),
        _bytes(told),
        _curves(told),
        _budget(told),
        _failures(told),
        _machine(told),
    ]
    return [p for p in parts if p]


def section(
    title: str, lead: str, figures: list[go.Figure] | None = None, tables: list[tuple[str, pd.DataFrame]] | None = None
) -> dict[str, Any]:
    """A part of a page: title, lead, figures, and tables with their captions."""
    return {
        "title": title,
        "id": title.lower().replace(" ", "-").replace(",", ""),
        "lead": lead,
        "figures": [_figure(f) for f in figures or []],
        "tables": [
            {"caption": c, "head": list(t.columns), "rows": t.astype(str).to_numpy().tolist()}
            for c, t in tables or []
            if len(t)
        ],
    }


def _figure(figure: go.Figure) -> str:
    config = {"displayModeBar": False, "responsive": True, "scrollZoom": False}
    return str(plotly.io.to_html(figure, include_plotlyjs=False, full_html=False, config=config, default_width="100%"))


def _ranking(told: Report) -> dict[str, Any]:
    table, attrs = told.contributions, told.contributions.attrs
    if not told.identified:
        return section("What each technique was worth", told.unidentified())
    known = table[table["delta_bpb"].notna()]
    alone = len(known) and known["doubt"].str.contains("beside all other").all()
    company = "beside all the others" if alone else "averaged over the others being on or off"
    lead = (
        f"The change in bits per byte when a technique is switched on, {company}, with its 95 % interval. Grey is not "
        f"distinguishable from zero at 5 % false discovery. {attrs['runs']} complete runs; errors: {attrs['errors']}, "
        f"{attrs['df']:.0f} degrees of freedom, standard deviation of one run {attrs['sigma']:.4f}."
    )
    lead += " “Detectable” is the smallest true effect that these runs would have shown with 80 % power."
    if attrs.get("adjusted"):
        lead += f" Adjusted for {', '.join(attrs['adjusted'])}."
    shown = pd.DataFrame(
        {
            "technique": table["technique"],
            "Δ bpb": _signed(table["delta_bpb"]),
            "± 95 %": _number(table["high"] - table["delta_bpb"]),
            "BH q": _small(table["q_bh"]),
            "detectable": _number(table["mde"]),
            "runs on / off": [f"{a:.0f} / {b:.0f}" for a, b in zip(table["runs"], table["runs_off"], strict=True)],
            "Δ bytes": _bytes_text(table["bytes"], half_width(table["bytes_se"], attrs["df"])),
            "doubt": table["doubt"].fillna(""),
            "Holm p": _small(table["p_holm"]),
            "p": _small(table["p"]),
            "Δ bpb per kB": _signed(table["delta_per_kb"], 5),
            "Δ seconds": _signed(table["seconds"], 1),
            "by rung": table["sign_by_rung"].fillna(""),
        }
    )
    return section(
        "What each technique was worth",
        lead,
        [plots.contributions(table)] if table["delta_bpb"].notna().any() else [],
        [("", shown)],
    )


def _after_training(told: Report) -> dict[str, Any]:
    table = told.finishings
    if table.empty:
        return {}
    lead = (
        "Every training was finished in further ways: quantised, packed and scored with a technique and without it. The two "
        "sides of a comparison share their trained weights and their text. In the table above every run is another training, "
        "and two trainings differ by chance far more than two finishes of one training do: so the errors here are smaller. "
        f"Each difference is an average over {int(table['trainings'].max())} trainings, each on a stretch of text of its own."
    )
    exact = (table["se"] == 0) & (table["delta_bpb"] == 0)
    shown = pd.DataFrame(
        {
            "technique": table["technique"],
            "instead of": table["instead_of"],
            "beside": table["beside"],
            "Δ bpb": np.where(exact, "0, exactly", _signed(table["delta_bpb"], 5)),
            "± 95 %": np.where(exact, "", _number(table["high"] - table["delta_bpb"], 5)),
            "BH q": np.where(exact, "", _small(table["q_bh"])),
            "Δ bytes": _bytes_text(table["bytes"], (table["bytes_high"] - table["bytes"]).to_numpy()),
            "trainings": table["trainings"],
            "doubt": table["doubt"],
        }
    )
    beside = [f"{t} (beside {b})" if b else t for t, b in zip(table["technique"], table["beside"], strict=True)]
    drawn = table.assign(technique=beside, runs=table["trainings"])
    return section("What acts after training", lead, [plots.contributions(drawn)], [("", shown)])


def _confirmed(told: Report) -> dict[str, Any]:
    table = told.confirmed
    if table.empty:
        return {}
    shown = pd.DataFrame(
        {
            "against": table["preset"],
            "found, bpb": _number(table["found_bpb"]),
            "preset, bpb": _number(table["preset_bpb"]),
            "Δ bpb": _signed(table["delta_bpb"]),
            "± 95 %": _number(table["high"] - table["delta_bpb"]),
            "p": _small(table["p"]),
            "seeds": table["seeds"],
            "documents": table["documents"],
            "largest bytes": [f"{v:,.0f}" for v in table["bytes"]],
            "over the limit on": [f"{v} seed(s)" if v else "–" for v in table["over"]],
            "doubt": table["doubt"],
        }
    )
    lead = (
        "The best of a search was chosen for its score, so its score flatters it. Here it and the preset were trained anew "
        "with seeds that no trial had, and scored on the test part, which no search sees. Differences are paired by seed and "
        "document."
    )
    return section("The best found, confirmed", lead, tables=[("", shown)])


def _recipes(told: Report) -> dict[str, Any]:
    top = told.recipes.head(10)
    if top.empty:
        return {}
    shown = pd.DataFrame(
        {
            "recipe": top["recipe"],
            "bpb": [f"{v:.4f}" for v in top["bpb"]],
            "± 95 %": _number(top["high"] - top["bpb"]),
            "expected again": _number(top["expected"]),
            "is the best": [f"{v:.0%}" if np.isfinite(v) else "–" for v in top["p_best"]],
            "seeds": top["runs"],
            "bytes": [f"{v:,.0f}" for v in top["bytes"]],
            "doubt": top["doubt"],
            "techniques": top["techniques"],
        }
    )
    lead = (
        "The ten best recipes. The best of many noisy scores is partly luck; “expected again” takes that luck out, “is "
        "the best” is the chance of being the best of those that fit."
    )
    return section("The best recipes", lead, tables=[("", shown)])


def _pairs(told: Report) -> dict[str, Any]:
    if told.model is None or len(told.model.names) < 2:
        return {}
    table = interaction(told.model)
    clear = table[(table["q_bh"] <= 0.05) | table["in_model"]]
    known = table[table["delta_bpb"].notna()]
    if known.empty:
        return section(
            "Interactions",
            (
                "These runs cannot tell what any two techniques do together from what each does alone. "
                "A folded screen (`--design screen`) or `--design pairs` can."
            ),
        )
    words = ", ".join(f"{r.a} × {r.b} ({r.delta_bpb:+.4f} ± {r.high - r.delta_bpb:.4f})" for r in clear.itertuples())
    lead = "What two techniques are worth together beyond the sum of the two; negative means that they help each other. "
    lead += "The map shrinks every estimate by its own error. "
    if words:
        lead += f"Pairs that show: {words}."
    else:
        lead += f"None of {len(table)} pairs is distinguishable from zero; the median one would have shown at "
        lead += f"{known['mde'].median():.4f}."
    first = table.head(10 if words else 6)
    shown = pd.DataFrame(
        {
            "pair": first["a"] + " × " + first["b"],
            "Δ bpb": _signed(first["delta_bpb"]),
            "± 95 %": _number(first["high"] - first["delta_bpb"]),
            "BH q": _small(first["q_bh"]),
            "runs with both": first["runs"],
            "detectable": _number(first["mde"]),
            "doubt": first["doubt"],
        }
    )
    preset = _best_names(told)
    tables = [("Strongest pairs", shown)]
    if preset:
        lost = removal(told.model, preset)
        out = pd.DataFrame(
            {
                "technique": lost["technique"],
                "if removed first": _signed(lost["loses_first"]),
                "if removed last": _signed(lost["loses_last"]),
                "average over orders": _signed(lost["average"]),
                "range over orders": [f"{a:+.4f} … {b:+.4f}" for a, b in zip(lost["least"], lost["most"], strict=True)],
                "lost up to here": [f"{v:+.4f} ± {h - v:.4f}" for v, h in zip(lost["path"], lost["path_high"], strict=True)],
            }
        )
        tables.append(
            (
                (
                    "What the best recipe would lose, in the order in which techniques are best given up (positive: "
                    "bits per byte lost)"
                ),
                out,
            )
        )
    square = matrix(table[table["a"].isin(_leading(told)) & table["b"].isin(_leading(told))])
    return section("Interactions", lead, [plots.pairs(square)] if len(square) > 2 else [], tables)


def _leading(told: Report, most: int = 16) -> list[str]:
    """The techniques with the largest effects, as many as a heat map can show."""
    ordered = told.contributions.dropna(subset=["delta_bpb"]).sort_values("delta_bpb", key=np.abs, ascending=False)
    return list(ordered["technique"].head(most))


def _best_names(told: Report) -> list[str]:
    """The varying techniques of the best recipe."""
    best = told.best
    names = best["techniques"].split(", ") if best and best["techniques"] else []
    return [
        n
        for n in names
        if told.model is not None and n in told.model.names and np.isfinite(told.model.fit.beta[told.model.columns[n]])
    ]


def _frontier(told: Report) -> dict[str, Any]:
    table = frontier(told.table, recipes=told.recipes)
    if len(table) < 2:
        return {}
    price = shadow_price(told.table, recipes=told.recipes).iloc[0]
    table["named"] = table["recipe"].map(told.table.attrs["experiment"].get("presets", {})).fillna("")
    lead = "Every completed recipe by its packed bytes; those that nothing else beats in both are joined."
    if np.isfinite(price["bpb_per_kb"]):
        unsure = f", {price['doubt']}" if price["doubt"] else ""
        lead += (
            f" At the limit one more kilobyte is worth {price['bpb_per_kb']:+.5f} bits per byte (95 %: "
            f"{price['low']:+.5f} … {price['high']:+.5f}{unsure})."
        )
    return section("Bytes against bits per byte", lead, [plots.frontier(table, float(np.nanmedian(told.table["limit"])))])


def _knobs(told: Report) -> dict[str, Any]:
    table = response(told.table, model=told.model)
    known = table.groupby("knob")["p"].first().sort_values().head(4) if len(table) else pd.Series(dtype=float)
    if known.empty:
        return {}
    lead = (
        "How the score moves with each knob while its technique is on, the rest of the recipe accounted for; the band is 95 %. "
    )
    lead += (
        "; ".join(
            f"{k}: {table.loc[table['knob'] == k, 'doubt'].iloc[0] or 'a clear response'} (p {p:.2g})" for k, p in known.items()
        )
        + "."
    )
    return section("Knobs", lead, [plots.response(table, k) for k in known.index])


def _bytes(told: Report) -> dict[str, Any]:
    known = told.table[told.table["bytes"].notna() & told.table["forecast_mid"].notna() & (told.table["state"] == "complete")]
    if known.empty:
        return {}
    known = known.assign(bytes=known["bytes"].astype(float))
    error = known["bytes"] / known["forecast_mid"] - 1
    inside = ((known["bytes"] >= known["forecast_low"]) & (known["bytes"] <= known["forecast_high"])).mean()
    over = int((known["bytes"] > known["limit"]).sum())
    lead = (
        f"Forecast error, true bytes over the forecast made before training: mean {error.mean():+.2%}, root mean "
        f"square {np.sqrt((error**2).mean()):.2%}, worst {error.iloc[int(np.argmax(error.abs()))]:+.2%} "
        f"over {len(known)} runs; {inside:.0%} fell inside the forecast's interval. {over} finished over the limit."
    )
    return section("Forecast and true bytes", lead, [plots.forecasts(known)])


def _curves(told: Report) -> dict[str, Any]:
    if not any(len(c) > 1 for c in told.table["curve"]):
        return {}
    rungs = agreement(told.table)
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
        "Training loss by tokens; the best run stands out.",
        [plots.curves(told.table)],
        [("Does an early score predict the final one?", shown)],
    )


def _budget(told: Report) -> dict[str, Any]:
    table = told.table
    stages = {str(c)[6:]: table[c].sum() for c in table if str(c).startswith("stage.")}
    counts = told.counts
    shared = counts["complete"] + counts["pruned"] + counts["failed"] - counts["trained"]
    lead = (
        f"{counts['asked']} proposed: {counts['not_fitting']} dropped before training, {counts['complete']} completed, "
        f"{counts['pruned']} stopped early ({counts['over_limit']} for measuring over the limit), {counts['failed']} failed. "
        f"{counts['trained']} trainings" + (f"; {shared} runs found theirs in the stage cache." if shared > 0 else ".")
    )
    shown = pd.DataFrame({"stage": stages.keys(), "seconds in all": [f"{v:,.1f}" for v in stages.values()]})
    return section("Where the budget went", lead, [plots.budget(counts)], [("", shown)])


def _failures(told: Report) -> dict[str, Any]:
    bad = told.table[told.table["state"].isin(["failed", "pruned"])]
    if bad.empty:
        return section("Failures", "No run failed and none was stopped early.")
    grouped = (
        bad.groupby(["state", bad["reason"].fillna("").astype(str)])
        .agg(runs=("recipe", "size"), example=("recipe", "first"))
        .reset_index()
    )
    grouped = grouped.sort_values("runs", ascending=False).head(ROWS_AT_MOST)
    return section("Failures", "Runs that did not complete, by reason.", tables=[("", grouped)])


def _machine(told: Report) -> dict[str, Any]:
    attrs, experiment = told.table.attrs, told.table.attrs["experiment"]
    facts = {
        k: v
        for k, v in (experiment | experiment.get("options", {})).items()
        if not isinstance(v, dict | list) and v not in (None, "")
    }
    facts |= {
        k: ", ".join(f"{value} ({runs} runs)" if len(seen) > 1 else value for value, runs in seen.items())
        for k, seen in attrs["machines"].items()
    }
    facts |= {"conditions": "; ".join(f"{c} ({n} runs)" for c, n in told.table["condition"].value_counts().items())}
    facts |= {
        "seeds": ", ".join(f"{s:g}" for s in sorted(told.table["seed"].dropna().unique())[:40]),
        "techniques every run had": ", ".join(attrs["always"]) or "none",
    }
    facts |= {"byte limit": ", ".join(f"{v:,.0f}" for v in sorted(told.table["limit"].dropna().unique()))}
    shown = pd.DataFrame({"what": facts.keys(), "value": [str(v) for v in facts.values()]})
    tables = [("", shown)]
    if told.contributions.attrs.get("adaptive"):
        runs = needed_runs(told.table).head(8)
        tables.append(
            (
                "Runs that would remove the search's own bias (the best recipe with one technique flipped, fresh seeds)",
                runs.assign(se=_number(runs["se"])),
            )
        )
    return section(
        "How it was run", "Everything needed to run it again; each run's full recipe lies beside its record.", tables=tables
    )


def _signed(values: pd.Series, digits: int = 4) -> list[str]:
    return [f"{v:+.{digits}f}" if np.isfinite(v) else "–" for v in values]


def _number(values: pd.Series, digits: int = 4) -> list[str]:
    return [f"{v:.{digits}f}" if np.isfinite(v) else "–" for v in values]


def _small(values: pd.Series) -> list[str]:
    return ["–" if not np.isfinite(v) else ("< 0.0001" if v < 1e-4 else f"{v:.2g}") for v in values]


def _bytes_text(values: pd.Series, halves: np.ndarray) -> list[str]:
    return [
        "–" if not np.isfinite(v) else f"{v:+,.0f} ± {h:,.0f}" if np.isfinite(h) else f"{v:+,.0f}"
        for v, h in zip(values, halves, strict=True)
    ]
