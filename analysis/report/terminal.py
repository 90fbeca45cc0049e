"""The report as text for a terminal."""

from __future__ import annotations

from typing import Any

import numpy as np

from golflab.analysis.ladder.findings import ladder_text
from golflab.analysis.report.findings import Findings
from golflab.analysis.report.words import summary
from golflab.model.system.wording import number_of


def write(findings: Findings, console: Any) -> None:
    """Print the summary and the ranking to a `rich` console."""
    for sentence in summary(findings):
        console.print(sentence, highlight=False)
    if findings.ladder is not None:
        ladder_text(findings.ladder, console)
    elif findings.identified:
        console.print(_ranking_grid(findings, console.width >= 120))
        if console.width < 120:
            for doubt, part in findings.contributions[findings.contributions["doubt"] != ""].groupby("doubt", sort=False):
                console.print(f"{', '.join(part['technique'])}: {doubt}.", highlight=False)
    if len(findings.expected):
        console.print(_expected_grid(findings))
    if len(findings.published):
        console.print(_published_grid(findings))
    if len(findings.finishings):
        console.print(_finishing_grid(findings))


def _ranking_grid(findings: Findings, wide: bool) -> Any:
    """The effects of techniques: a `rich` table."""
    shown = findings.contributions[findings.contributions["se"].notna() | wide]
    names = ("technique", "Δ bpb ± 95 %", "q", "runs", "detectable", "bytes", *(["doubt"] if wide else []))
    grid = _grid(f"What each technique was worth ({findings.contributions.attrs['runs']} complete runs)", names)
    for row in shown.itertuples(index=False):
        known = np.isfinite(row.delta_bpb)
        cells = (
            row.technique,
            _with_error(row.delta_bpb, row.high - row.delta_bpb),
            f"{row.q_bh:.2g}" if known else "–",
            f"{row.runs:.0f}",
            f"{row.mde:.4f}" if np.isfinite(row.mde) else "–",
            f"{row.bytes:+,.0f}" if np.isfinite(row.bytes) else "–",
        )
        grid.add_row(*cells, *([row.doubt] if wide else []), style=_tint(row.delta_bpb, row.q_bh))
    return grid


def _finishing_grid(findings: Findings) -> Any:
    """The effects of techniques that act after training: a `rich` table."""
    count = int(findings.finishings["trainings"].max())
    title = f"Techniques that act after training, compared on the same weights and text ({number_of(count, 'training')})"
    grid = _grid(title, ("technique", "Δ bpb ± 95 %", "q", "bytes", "instead of"))
    for row in findings.finishings.itertuples(index=False):
        exact = row.se == 0 == row.delta_bpb  # a codec changes no weight
        cells = (
            row.technique + (f" beside {row.beside}" if row.beside else ""),
            "0, exactly" if exact else _with_error(row.delta_bpb, row.high - row.delta_bpb),
            "" if exact else f"{row.q_bh:.2g}" if np.isfinite(row.q_bh) else "–",
            f"{row.bytes:+,.0f}",
            row.instead_of,
        )
        grid.add_row(*cells, style=_tint(row.delta_bpb, row.q_bh))
    return grid


def _expected_grid(findings: Findings) -> Any:
    """Effects that were expected, beside measured ones: a `rich` table."""
    grid = _grid("What the search expected before its first trial", ("technique", "expected ± SD", "measured ± 95 %"))
    for row in findings.expected.itertuples(index=False):
        grid.add_row(
            row.technique, _with_error(row.expected, row.expected_sd), _with_error(row.delta_bpb, row.high - row.delta_bpb)
        )
    return grid


def _published_grid(findings: Findings) -> Any:
    """Measured effects beside published ones: a `rich` table."""
    grid = _grid(
        "Beside what entries published (± 95 %, mean over their settings; `golflab evidence` has every row)",
        ("technique", "measured", "published", "better", "same sign"),
    )
    for row in findings.published.itertuples(index=False):
        cells = (
            _with_error(row.delta_bpb, row.high - row.delta_bpb),
            _with_error(row.published, row.published_high - row.published),
            f"{row.better} of {row.sources}",
            row.agreement or "–",
        )
        grid.add_row(row.technique, *cells)
    return grid


def _grid(title: str, names: tuple[str, ...]) -> Any:
    """An empty `rich` table: words to the left, numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        words = name in ("technique", "doubt", "instead of")
        grid.add_column(name, justify="left" if words else "right", overflow="fold", no_wrap=not words)  # numbers stay whole
    return grid


def _tint(delta: float, q: float) -> str:
    """Green for a clear improvement, red for a clear loss."""
    return "" if not np.isfinite(delta) or not q <= 0.05 or delta == 0 else ("green" if delta < 0 else "red")


def _with_error(value: float, half: float, digits: int = 4) -> str:
    """An effect with half the width of its interval, or a dash if there is none."""
    if not np.isfinite(value):
        return "–"
    return f"{value:+.{digits}f} ± {half:.{digits}f}" if np.isfinite(half) else f"{value:+.{digits}f} ± ?"
