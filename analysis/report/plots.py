"""Pictures of the tables: each function takes a DataFrame this package made and returns a plotly figure.

Backgrounds are transparent and margins small, so that the same figure sits in a notebook and in the report, on a phone
and on a desk, in light and in dark.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from golflab.analysis.report.parts import tidy, wrapped

GOOD, BAD, UNSURE, ACCENT = "#1a8f5a", "#c8452f", "#8b93a1", "#3568d4"
PALETTE = ("#3568d4", "#1a8f5a", "#d39b2a", "#c8452f", "#8a56c4", "#2a9aa8", "#a0522d", "#d4579a")
POINTS_AT_MOST = 1000  # these three keep a page of any experiment under 1.5 MB
NAMES_AT_MOST = 300
CURVES_AT_MOST, CURVE_POINTS_AT_MOST = 40, 100


def contributions(table: pd.DataFrame) -> go.Figure:
    """Effects with their 95 % intervals, best at the top; grey is not distinguishable from zero."""
    known = table[table["delta_bpb"].notna()].iloc[::-1]
    clear = (known["q_bh"] <= 0.05) & ~((known["low"] <= 0) & (known["high"] >= 0))
    colors = np.where(~clear, UNSURE, np.where(known["delta_bpb"] < 0, GOOD, BAD))
    text = [
        f"{d:+.4f} ± {h:.4f}<br>q {q:.3g}, {r:.0f} runs with it"
        for d, h, q, r in zip(known["delta_bpb"], known["high"] - known["delta_bpb"], known["q_bh"], known["runs"], strict=True)
    ]
    figure = go.Figure()
    for color, label in ((GOOD, "better"), (BAD, "worse"), (UNSURE, "not distinguishable from zero")):
        part = colors == color
        if part.any():
            half = (known["high"] - known["delta_bpb"])[part]
            figure.add_scatter(
                x=known["delta_bpb"][part],
                y=known["technique"][part],
                mode="markers",
                name=label,
                marker={"color": color, "size": 9},
                error_x={"array": half, "color": color, "thickness": 1.6, "width": 3},
                hovertext=np.array(text)[part],
                hoverinfo="text+y",
            )
    figure.add_vline(x=0, line={"color": UNSURE, "width": 1})
    figure.update_yaxes(categoryorder="array", categoryarray=known["technique"].tolist())
    figure.update_xaxes(title="change in bits per byte (left is better)")
    return tidy(figure, 90 + 26 * len(known))


def pairs(square: pd.DataFrame) -> go.Figure:
    """Coloured squares of the pairwise table (`interaction.matrix`): green pairs help each other, red pairs hinder each other.

    They are markers, not a heat map, because the report's plotting bundle has no heat maps (`page.bundle`).
    """
    cells = square.rename_axis("y").reset_index().melt("y", var_name="x", value_name="z").dropna()
    limit = float(cells["z"].abs().max()) if len(cells) else 1.0
    figure = go.Figure(
        go.Scatter(
            x=cells["x"],
            y=cells["y"],
            mode="markers",
            marker={
                "symbol": "square",
                "size": 20,
                "color": cells["z"],
                "cmin": -limit,
                "cmax": limit,
                "colorscale": [[0, GOOD], [0.5, "#f4f4f2"], [1, BAD]],
                "colorbar": {"title": "bpb", "thickness": 10},
                "line": {"width": 0},
            },
            customdata=cells["z"],
            hovertemplate="%{y} × %{x}: %{customdata:+.4f}<extra></extra>",
        )
    )
    figure.update_yaxes(categoryorder="array", categoryarray=list(square.index)[::-1])
    figure.update_xaxes(categoryorder="array", categoryarray=list(square.columns), tickangle=-60)
    return tidy(figure, 160 + 24 * len(square))


def frontier(table: pd.DataFrame, limit: float | None = None) -> go.Figure:
    """Bits per byte over bytes: every recipe, the efficient ones joined, the limit as a line."""
    figure = go.Figure()
    rest, best = _thin(table[~table["efficient"]]), table[table["efficient"]].sort_values("bytes")
    for part, color, name in ((rest, UNSURE, "other recipes"), (best, ACCENT, "efficient")):
        if len(part):
            figure.add_scatter(
                x=part["bytes"] / 1000,
                y=part["bpb"],
                name=name,
                mode="markers" if part is rest else "lines+markers",
                line={"shape": "hv", "color": color, "width": 1.5},
                marker={"color": color, "size": 7, "opacity": 0.75},
                hovertext=_hover(part),
                error_y={"array": part["high"] - part["bpb"], "color": color, "thickness": 0.8, "width": 0}
                if len(part) < 200
                else None,
            )
    if "named" in table and table["named"].any():
        named = table[table["named"].astype(bool)]
        figure.add_scatter(
            x=named["bytes"] / 1000,
            y=named["bpb"],
            mode="markers+text",
            text=named["named"],
            textposition="top center",
            marker={"symbol": "star", "size": 12, "color": BAD},
            name="presets",
        )
    if limit and np.isfinite(limit):
        figure.add_vline(
            x=limit / 1000, line={"color": BAD, "dash": "dot"}, annotation={"text": "limit", "font": {"color": BAD}}
        )
    figure.update_xaxes(title="packed bytes, kB")
    figure.update_yaxes(title="bits per byte")
    return tidy(figure, 420)


def variants(table: pd.DataFrame, bpb_float: float) -> go.Figure:
    """Bits per byte over bytes of many artifacts of one training: a colour per grid, a symbol per rounding, the front joined.

    Args:
        table: of `variants.variants`, with ``efficient``.
        bpb_float: of the weights before quantisation, drawn as a line.
    """
    figure, symbols = go.Figure(), ("circle-open", "circle", "diamond", "square")
    for color, (bits, part) in zip(itertools.cycle(PALETTE), table.groupby("bits", sort=False), strict=False):
        for symbol, (rounding, rows) in zip(symbols, part.groupby("rounding", sort=True), strict=False):
            figure.add_scatter(
                x=rows["bytes"] / 1000,
                y=rows["bpb"],
                name=f"{bits} {rounding}",
                mode="markers",
                marker={"color": color, "symbol": str(symbol), "size": 8, "opacity": 0.85},
                error_y={"array": rows["over_float_half"], "color": color, "thickness": 0.8, "width": 0},
                hovertext=rows["techniques"].map(wrapped),
            )
    front = table[table["efficient"]].sort_values("bytes")
    line = {"shape": "hv", "color": UNSURE, "width": 1.2}
    figure.add_scatter(x=front["bytes"] / 1000, y=front["bpb"], mode="lines", line=line, name="efficient", hoverinfo="skip")
    figure.add_hline(y=bpb_float, line={"color": UNSURE, "dash": "dot", "width": 1}, annotation={"text": "float weights"})
    figure.add_vline(x=table["limit"].iloc[0] / 1000, line={"color": BAD, "dash": "dot"}, annotation={"text": "limit"})
    figure.update_xaxes(title="packed bytes and code, kB")
    figure.update_yaxes(title="bits per byte of the unpacked artifact", type="log", tickformat=".3f")
    return tidy(figure, 560)


def forecasts(table: pd.DataFrame) -> go.Figure:
    """True bytes minus the forecast's middle, over the forecast, with the forecast's interval."""
    known = _thin(table[table["bytes"].notna() & table["forecast_mid"].notna()])
    error = (known["bytes"].astype(float) / known["forecast_mid"] - 1) * 100
    figure = go.Figure()
    figure.add_scatter(
        x=known["forecast_mid"] / 1000,
        y=error,
        mode="markers",
        marker={"color": ACCENT, "size": 7, "opacity": 0.75},
        name="true − forecast",
        showlegend=False,
        error_y={
            "array": (known["forecast_high"] / known["forecast_mid"] - 1) * 100,
            "arrayminus": (1 - known["forecast_low"] / known["forecast_mid"]) * 100,
            "symmetric": False,
            "color": "rgba(53,104,212,0.25)",
            "thickness": 1,
            "width": 0,
        }
        if len(known) < 300
        else None,
    )
    figure.add_hline(y=0, line={"color": UNSURE, "width": 1})
    figure.update_xaxes(title="forecast before training, kB")
    figure.update_yaxes(title="true bytes over forecast, %")
    return tidy(figure, 360)


def curves(table: pd.DataFrame, key: str = "loss") -> go.Figure:
    """Training curves; the best run stands out, runs that were stopped are red."""
    figure = go.Figure()
    shown = table[[len(c) > 1 for c in table["curve"]]].sort_values("bpb", na_position="last")
    picked = (
        shown.iloc[np.unique(np.linspace(0, len(shown) - 1, min(len(shown), CURVES_AT_MOST)).astype(int))]
        if len(shown)
        else shown
    )
    lows = []
    for place, row in enumerate(picked[::-1].itertuples()):
        points = _spaced([p for p in row.curve if p.get(key) is not None])
        best, stopped = place == len(picked) - 1, row.state != "complete"
        color, width = (ACCENT, 2.5) if best else ((BAD, 1) if stopped else (UNSURE, 1))
        tokens, values = [p["tokens"] for p in points], [p[key] for p in points]
        lows += values[len(values) // 10 :]
        figure.add_scatter(
            x=np.array(tokens),
            y=np.array(values, np.float32),
            mode="lines",
            line={"color": color, "width": width},
            opacity=1.0 if best else 0.55,
            showlegend=best,
            name="best run" if best else row.recipe,
            hovertext=f"{row.recipe} {row.state}",
            hoverinfo="text+y",
        )
    if lows:
        margin = 0.05 * (max(lows) - min(lows)) + 1e-6
        figure.update_yaxes(range=[min(lows) - margin, max(lows) + margin])
    figure.update_xaxes(title="training tokens")
    figure.update_yaxes(title="training loss, nats" if key == "loss" else key)
    return tidy(figure, 400)


def budget(counts: dict[str, int]) -> go.Figure:
    """Where the trials went."""
    names = {"complete": ACCENT, "pruned": "#d39b2a", "failed": BAD, "not_fitting": UNSURE}
    figure = go.Figure()
    for name, color in names.items():
        if counts.get(name):
            figure.add_bar(
                x=[counts[name]],
                y=["proposed"],
                orientation="h",
                name=name.replace("_", " "),
                marker={"color": color},
                text=[counts[name]],
                textposition="inside",
            )
    figure.update_layout(barmode="stack")
    figure.update_yaxes(visible=False)
    figure.update_xaxes(title="recipes")
    return tidy(figure, 170)


def response(table: pd.DataFrame, knob: str) -> go.Figure:
    """A knob's response curve (`knobs.response`) with its band."""
    part = table[table["knob"] == knob]
    figure = go.Figure()
    if part["band"].any():
        for edge, fill in (("low", None), ("high", "tonexty")):
            figure.add_scatter(
                x=part["value"],
                y=part[edge],
                mode="lines",
                line={"width": 0},
                fill=fill,
                fillcolor="rgba(53,104,212,0.18)",
                showlegend=False,
                hoverinfo="skip",
            )
    figure.add_scatter(x=part["value"], y=part["delta_bpb"], mode="lines+markers", line={"color": ACCENT}, showlegend=False)
    figure.add_hline(y=0, line={"color": UNSURE, "width": 1})
    figure.update_xaxes(title=knob)
    figure.update_yaxes(title="change in bits per byte")
    return tidy(figure, 320)


def style(table: pd.DataFrame) -> pd.io.formats.style.Styler:
    """A contribution-like table for a notebook: rounded, clear effects coloured, doubt in full."""

    def color(row: pd.Series) -> list[str]:
        clear = row.get("q_bh", 1.0) <= 0.05
        tint = "" if not clear else (f"color: {GOOD}" if row["delta_bpb"] < 0 else f"color: {BAD}")
        return [tint if name in ("delta_bpb", "technique") else "" for name in row.index]

    kinds = dict.fromkeys(("p", "p_holm", "q_bh"), "{:.2g}") | dict.fromkeys(("runs", "runs_off"), "{:.0f}")
    kinds |= {"bytes": "{:+,.0f}", "bytes_se": "{:,.0f}", "seconds": "{:+.1f}", "seconds_se": "{:.1f}", "vif": "{:.1f}"}
    formats = {c: kinds.get(c, "{:+.5f}") for c in table.columns if pd.api.types.is_float_dtype(table[c]) or c in kinds}
    return (
        table.style.format(formats, na_rep="–").apply(color, axis=1).hide(axis="index")
        if "delta_bpb" in table
        else table.style.format(formats, na_rep="–").hide(axis="index")
    )


def _thin(table: pd.DataFrame) -> pd.DataFrame:
    return table if len(table) <= POINTS_AT_MOST else table.sample(POINTS_AT_MOST, random_state=0)


def _hover(table: pd.DataFrame) -> pd.Series:
    """What a point says of itself: its techniques, or only its recipe's hash where there are many points."""
    return table["techniques"].map(wrapped) if len(table) <= NAMES_AT_MOST else table["recipe"]


def _spaced(points: list[dict]) -> list[dict]:
    """The first, the last, and evenly spaced points between them."""
    if len(points) <= CURVE_POINTS_AT_MOST:
        return points
    return [points[k] for k in np.linspace(0, len(points) - 1, CURVE_POINTS_AT_MOST).astype(int)]
