"""The page's section about a ladder, and its plot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from golflab.analysis.ladder.findings import LadderFindings, shown
from golflab.analysis.ladder.forecast import Ladder, path
from golflab.analysis.report.parts import section

COLORS = ("#3568d4", "#1a8f5a", "#d39b2a", "#8a56c4", "#c8452f")
PLOTS_AT_MOST = 24
COLUMNS = 3


def ladder_section(found: LadderFindings | None) -> dict[str, Any]:
    """The page's section; empty where there is no ladder."""
    if found is None:
        return {}
    full = np.exp(found.model.full)
    rungs = found.model.differences[["parameters", "tokens_per_parameter"]].drop_duplicates()
    small, large = rungs["parameters"].min(), rungs["parameters"].max()
    lead = (
        f"Predicted for a model of {full[1] / 1e6:.0f} million parameters after {full[0]:.0f} training tokens per parameter, "
        f"from {len(rungs)} rungs of {small:,.0f} to {large:,.0f} parameters. A rung is a scale and a duration. Negative is "
        "better. The interval is for the true effect there, model error included. Verdicts need 95 % probability: persists, "
        "same sign as in the middle of the ladder; grows, and larger; fades, less than half of it is left; flips, the other "
        "sign. “Cannot tell” is none of them. The further run is the cheapest after which another verdict is more likely than "
        "not; where there is none, the likeliest, with its probability."
    )
    return section("At full scale", lead, [plot(found.model)], [("", shown(found))])


def plot(ladder: Ladder, published: pd.DataFrame | None = None) -> go.Figure:
    """Effect against tokens per parameter: one line a scale, the extrapolation to full scale shaded.

    Args:
        ladder: of `golflab.analysis.ladder.forecast.fit`.
        published: technique and delta_bpb of effects that others measured at full scale; marked by a cross.
    """
    from plotly.subplots import make_subplots

    names = list(ladder.names)[:PLOTS_AT_MOST]
    figure = make_subplots(
        rows=-(-len(names) // COLUMNS), cols=COLUMNS, subplot_titles=names, horizontal_spacing=0.06, vertical_spacing=0.06
    )
    for k, name in enumerate(names):
        place = {"row": k // COLUMNS + 1, "col": k % COLUMNS + 1}
        for trace in _traces(ladder, name, published, first=k == 0):
            figure.add_trace(trace, **place)
        figure.add_hline(y=0, line={"color": "#8b93a1", "width": 1}, **place)
    figure.update_xaxes(type="log")
    figure.update_layout(
        height=120 + 210 * -(-len(names) // COLUMNS),
        margin={"l": 50, "r": 10, "t": 40, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": -0.05},
    )
    return figure


def _traces(ladder: Ladder, name: str, published: pd.DataFrame | None, first: bool) -> list[go.Scatter]:
    """Of one technique."""
    mine = ladder.differences[ladder.differences["technique"] == name].sort_values("tokens_per_parameter")
    way = path(ladder, name)
    out = [
        go.Scatter(
            x=[*way["tokens_per_parameter"], *way["tokens_per_parameter"][::-1]],
            y=[*way["high"], *way["low"][::-1]],
            fill="toself",
            fillcolor="rgba(139,147,161,0.25)",
            line={"width": 0},
            name="prediction on the way to full scale, 90 %",
            legendgroup="prediction",
            showlegend=first,
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
                showlegend=first,
            )
        )
    marks = published[published["technique"] == name] if published is not None else pd.DataFrame()
    if len(marks):
        out.append(
            go.Scatter(
                x=np.repeat(np.exp(ladder.full[0]), len(marks)),
                y=marks["delta_bpb"],
                mode="markers",
                marker={"symbol": "x", "size": 9, "color": "#c8452f"},
                name="published",
                legendgroup="published",
                showlegend=first,
            )
        )
    return out
