"""Rows in the order of their likeness, laid out column after column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golflab.model.compression.artifact import Plane
from golflab.model.compression.grid import Grid
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob
from golflab.model.techniques.pack.byte_shuffle import Shuffled

MOST_ROWS = 1 << 16  # places are told in two bytes


@dataclass(frozen=True)
class SimilarRows(Technique):
    """Lay every matrix out with similar rows next to each other, column after column.

    The first row stays first; each further one is the nearest, of those left, to the one before, by the sum of absolute
    differences. Their places take two bytes a row. With ``transpose`` the sorted matrix is laid out by columns, so that
    neighbours in a column come from similar rows. fp16 numbers are split by byte as `byte_shuffle` does. Lossless. #1855 sorts
    the table, the queries and the MLP's first matrices, #2135 all of them; both use a context-mixing archiver (ZPAQ) behind it.
    """

    slot: ClassVar[str] = "layout"
    sources: ClassVar[tuple[str, ...]] = ("PR #1855", "PR #2135")
    doubt: ClassVar[str] = (
        "The published gain of 280 kB over Brotli contains that of the archiver. On one trained proxy it changes Brotli's file "
        "by −0.6 to +0.3 % and makes that of `rans_codec` 0.8 to 1.9 % larger (benchmarks/bytes.py archivers)."
    )
    float_share: ClassVar[float] = 0.87
    scale_share: ClassVar[float] = 0.70

    transpose: bool = knob(True, choices=(True, False))

    def build(self, shape: Shape, layer: int | None = None) -> Sorted:
        """Return the layout."""
        return Sorted(self.transpose)


class Sorted(Shuffled):
    """Places of the rows (high bytes, low bytes), and the sorted integers."""

    def __init__(self, transpose: bool) -> None:
        self.transpose = transpose

    def planes(self, rows: int, columns: int, grid: Grid) -> list[Plane]:
        """Places, integers."""
        sides = (columns, rows) if self.transpose else (rows, columns)
        places = [Plane(rows, 1, 0), Plane(rows, 1, 0)] if rows <= MOST_ROWS else []
        return [*places, Plane(*sides, -grid.lowest)]

    def spread(self, integers: np.ndarray, grid: Grid) -> list[np.ndarray]:
        """Sort the rows and say where each was."""
        order = by_likeness(integers) if len(integers) <= MOST_ROWS else np.arange(len(integers))
        pairs = order.astype("<u2").view(np.uint8).reshape(-1, 2)
        places = [pairs[:, 1:], pairs[:, :1]] if len(integers) <= MOST_ROWS else []
        laid = integers[order]
        return [*places, laid.T if self.transpose else laid]

    def gather(self, contents: list[np.ndarray], rows: int, columns: int, grid: Grid) -> np.ndarray:
        """The inverse; ValueError for an integer off the grid, or places that are no order."""
        *places, plane = contents
        laid = super().gather([plane.T if self.transpose else plane], rows, columns, grid)
        if not places:
            return laid
        order = np.ascontiguousarray(np.hstack([places[1], places[0]])).view("<u2").reshape(rows)
        if not np.array_equal(np.sort(order), np.arange(rows)):
            raise ValueError("artifact: the places of a matrix's rows are no order of them.")
        out = np.empty_like(laid)
        out[order] = laid
        return out


def by_likeness(integers: np.ndarray) -> np.ndarray:
    """Greedy order of rows (rows, columns) int8: the first row first, then always the nearest of those left, (rows,) int64.

    Nearest is by the sum of absolute differences; of equally near ones the first. It takes rows²·columns/2 differences: about
    a minute for a table of 8,192 by 512.
    """
    left = np.arange(len(integers))
    order = left.copy()
    waiting = integers.astype(np.int16)
    for place in range(1, len(order)):
        now = integers[order[place - 1]].astype(np.int16)
        keep = left != order[place - 1]
        left, waiting = left[keep], waiting[keep]
        nearest = np.abs(waiting - now).sum(axis=1, dtype=np.int32).argmin()
        order[place] = left[nearest]
    return order
