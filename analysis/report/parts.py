"""Parts of a page: sections with figures and tables, numbers as their cells show them, and the look of figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io


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


def signed(values: pd.Series, digits: int = 4) -> list[str]:
    """Numbers with their sign; a dash where unknown."""
    return [f"{v:+.{digits}f}" if np.isfinite(v) else "–" for v in values]


def number(values: pd.Series, digits: int = 4) -> list[str]:
    """Numbers without a plus sign; a dash where unknown."""
    return [f"{v:.{digits}f}" if np.isfinite(v) else "–" for v in values]


def small(values: pd.Series) -> list[str]:
    """P-values with two digits; a dash where unknown."""
    return ["–" if not np.isfinite(v) else ("< 0.0001" if v < 1e-4 else f"{v:.2g}") for v in values]


def bytes_text(values: pd.Series, halves: np.ndarray) -> list[str]:
    """Changes of bytes with half the width of their intervals; a dash where unknown."""
    return [
        "–" if not np.isfinite(v) else f"{v:+,.0f} ± {h:,.0f}" if np.isfinite(h) else f"{v:+,.0f}"
        for v, h in zip(values, halves, strict=True)
    ]


def wrapped(text: str, width: int = 60) -> str:
    """Break a list of names so that a hover label fits a phone."""
    lines, line = [], ""
    for word in str(text).split(", "):
        if len(line) + len(word) > width:
            lines.append(line)
            line = ""
        line += word + ", "
    return "<br>".join([*lines, line]).rstrip(", ")


def tidy(figure: go.Figure, height: int) -> go.Figure:
    """The look that all figures share."""
    grid = "rgba(139,147,161,0.25)"
    figure.update_layout(
        template="none",  # plotly's own styles would add 7 KB to every figure of a page
        height=height,
        margin={"l": 8, "r": 8, "t": 24, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        dragmode=False,
        font={"family": "system-ui, sans-serif", "size": 12},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
    )
    figure.update_xaxes(gridcolor=grid, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=grid, zeroline=False, automargin=True)
    return figure
