"""The page's section about a ladder, and its plot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from golflab.analysis.evidence.published import at_full_scale
from golflab.analysis.ladder.findings import LadderFindings, shown
from golflab.analysis.ladder.forecast import Ladder, path
from golflab.analysis.report.parts import section, tidy

COLORS = ("#3568d4", "#1a8f5a", "#d39b2a", "#8a56c4", "#2a9aa8")
PUBLISHED = "#c8452f"
PLOTS_AT_MOST = 24
COLUMNS = 3


def ladder_section(found: LadderFindings | None, published: pd.DataFrame | None = None) -> dict[str, Any]:
    """The page's section; empty where there is no ladder.

    Args:
        found: of the ladder.
        published: of `golflab.analysis.evidence.published.at_full_scale`; by default what entries published about the ladder's
            techniques.
    """
    if found is None:
        return {}
    published = at_full_scale(found.model.names) if published is None else published
    full = np.exp(found.model.full)
    rungs = found.model.differences[["parameters", "tokens_per_parameter"]].drop_duplicates()
    small, large = rungs["parameters"].min(), rungs["parameters"].max()
    lead = (
        f"Predicted for a model of {full[1] / 1e6:.0f} million parameters after {full[0]:.0f} training tokens per parameter, "
        f"from {len(rungs)} rungs of {small:,.0f} to {large:,.0f} parameters. A rung is a scale and a duration. Negative is "
        "better. The interval is for the true effect there, model error included. Verdicts need 95 % probability: persists, "
        "same sign as in the middle of the ladder; grows, and larger; fades, less than half of it is left; flips, the other "
        "sign. “Cannot tell” is none of them. The further run is the cheapest after which another verdict is more likely than "
        f"not; where there is none, the likeliest, with its probability. {_caption(published)}"
    )
    return section("At full scale", lead, [plot(found.model, published)], [("", _with_published(shown(found), published))])


def _caption(published: pd.DataFrame) -> str:
    """How to read the plot."""
    told = (
        "The plot has a panel for each technique: its effect in bits per byte against training tokens per parameter. There is "
        "one line a scale; its bars are 90 % intervals. The grey area is the 90 % interval of the prediction, on the way from "
        "the dearest rung to full scale."
    )
    if published.empty:
        return told
    return (
        f"{told} A cross at its end is what entries of the challenge published about this technique, with the 95 % interval of "
        "the mean over their settings. It is drawn for comparison. No prediction uses it."
    )


def _with_published(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The table that readers see, with what was published."""
    if published.empty:
        return table
    told = {
        row.technique: f"{row.delta_bpb:+.4f} ({row.low:+.4f} … {row.high:+.4f}), {row.sources} source(s)"
        for row in published.itertuples(index=False)
    }
    place = list(table.columns).index("P(helps)")
    out = table.copy()
    out.insert(place, "published, 95 %", [told.get(name, "–") for name in table["technique"]])
    return out


def plot(ladder: Ladder, published: pd.DataFrame | None = None) -> go.Figure:
    """Effect against tokens per parameter: one line a scale, the extrapolation to full scale shaded.

    Args:
        ladder: of `golflab.analysis.ladder.forecast.fit`.
        published: technique, delta_bpb, low and high of effects that others measured at full scale; each is a cross with its
            interval.
    """
    from plotly.subplots import make_subplots

    names = list(ladder.names)[:PLOTS_AT_MOST]
    rows = -(-len(names) // COLUMNS)
    figure = make_subplots(rows=rows, cols=COLUMNS, subplot_titles=names, horizontal_spacing=0.06, vertical_spacing=0.3 / rows)
    shown_before: set[str] = set()
    ways = path(ladder)
    for k, name in enumerate(names):
        place = {"row": k // COLUMNS + 1, "col": k % COLUMNS + 1}
        for trace in _traces(ladder, name, ways[ways["technique"] == name], published):
            trace.showlegend = trace.legendgroup not in shown_before
            shown_before.add(trace.legendgroup)
            figure.add_trace(trace, **place)
        figure.add_hline(y=0, line={"color": "#8b93a1", "width": 1}, **place)
        below = k + COLUMNS >= len(names)
        figure.update_xaxes(type="log", title="tokens per parameter" if below else None, **place)
        figure.update_yaxes(title="change in bits per byte" if k % COLUMNS == 0 else None, **place)
    figure = tidy(figure, 120 + 210 * rows)
    figure.update_layout(margin={"t": 90}, legend={"y": 1.0, "yref": "container", "yanchor": "top"})
    return figure


def _traces(ladder: Ladder, name: str, way: pd.DataFrame, published: pd.DataFrame | None) -> list[go.Scatter]:
    """Of one technique, with its rows of `path`."""
    mine = ladder.differences[ladder.differences["technique"] == name].sort_values("tokens_per_parameter")
    out = [
        go.Scatter(
            x=[*way["tokens_per_parameter"], *way["tokens_per_parameter"][::-1]],
            y=[*way["high"], *way["low"][::-1]],
            fill="toself",
            fillcolor="rgba(139,147,161,0.25)",
            line={"width": 0},
            name="predicted on the way to full scale, 90 %",
            legendgroup="prediction",
            hoverinfo="skip",
        )
    ]
    scales = ladder.differences.drop_duplicates("scale").sort_values("parameters")["scale"].tolist()
    for scale, rows in mine.groupby("scale", sort=False):
        color = COLORS[scales.index(scale) % len(COLORS)]
        out.append(
            go.Scatter(
                x=rows["tokens_per_parameter"],
                y=rows["delta_bpb"],
                error_y={"array": 1.645 * np.sqrt(rows["variance"]), "color": color, "thickness": 1.2},
                mode="lines+markers",
                line={"color": color},
                name=f"{scale} parameters",
                legendgroup=str(scale),
            )
        )
    if published is not None and (published["technique"] == name).any():
        out.append(_mark(published[published["technique"] == name], float(np.exp(ladder.full[0]))))
    return out


def _mark(published: pd.DataFrame, duration: float) -> go.Scatter:
    """What others measured at full scale, with its interval."""
    above, below = published["high"] - published["delta_bpb"], published["delta_bpb"] - published["low"]
    return go.Scatter(
        x=np.repeat(duration, len(published)),
        y=published["delta_bpb"],
        error_y={"array": above, "arrayminus": below, "symmetric": False, "color": PUBLISHED, "thickness": 1.2},
        mode="markers",
        marker={"symbol": "x", "size": 9, "color": PUBLISHED},
        name="published at full scale, 95 %",
        legendgroup="published",
    )
