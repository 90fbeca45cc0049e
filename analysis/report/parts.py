"""Parts of a page: sections with figures and tables, and numbers as their cells show them."""

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
