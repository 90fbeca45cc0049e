"""One line of the live table: a trial on screen, and numbers as its cells show them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.table import Table

from golflab.model.recipe import Recipe
from golflab.model.record import Record


@dataclass
class Row:
    """One trial on screen."""

    number: int
    recipe: Recipe | None
    began: float
    state: str = "running"
    reason: str = ""
    bpb: float | None = None
    bytes: float | None = None
    progress: float = 0.0
    ended: float | None = None


def columns_of(columns: dict[str, bool]) -> Table:
    """A table with one line per row. ``columns`` maps each heading to whether it is right-aligned; a last column is added."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", expand=True)
    for name, right in columns.items():
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    table.add_column("differs from the best", no_wrap=True, overflow="ellipsis", ratio=1)
    return table


def recipe_of(record: Record) -> Recipe | None:
    """The recipe of a record, or None if it cannot be read any more."""
    try:
        return Recipe.from_json(record.spec)
    except (ValueError, TypeError, KeyError):  # it is from a version with other techniques
        return None


def score_of(row: Row | None) -> float:
    """Bits per byte; infinite if unknown."""
    return math.inf if row is None or row.bpb is None else row.bpb


def bpb_text(value: float | None) -> str:
    """Bits per byte with four decimals, or a dash."""
    return "–" if value is None else f"{value:.4f}"


def bytes_text(value: float | None) -> str:
    """Whole bytes, or a dash."""
    return "–" if value is None else f"{value:,.0f}"


def rate_text(value: float) -> str:
    """Tokens per second in at most five characters."""
    return f"{value / 1e6:.2f}M" if value >= 999_500 else f"{value / 1e3:.0f}k" if value >= 9_950 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
