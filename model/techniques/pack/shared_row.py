"""Rows that are nearly equal, stored as differences from one shared row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golflab.model.compression.artifact import Plane
from golflab.model.compression.grid import Grid
from golflab.model.shape import Shape
from golflab.model.technique import Technique
from golflab.model.techniques.pack.byte_shuffle import Shuffled

ALIKE = 0.8  # a row's distance from the shared row over its own size, below which it is stored as the difference
FEWEST = 8  # rows that are worth a shared row


@dataclass(frozen=True)
class SharedRow(Technique):
    """Store rows of a matrix that are nearly alike as one shared row and their differences from it.

    Tokens that training text never contains (most byte tokens of SP1024) are all pushed the same way, so a quarter of a
    token table can be one row plus noise. Integers r of such rows become r − shared, a mask says which; rows and matrices
    without likeness stay as they are. fp16 numbers are split by byte as `byte_shuffle` does. Lossless; new in golflab, measured
    in ``benchmarks/bytes.py``.
    """

    slot: ClassVar[str] = "layout"
    sources: ClassVar[tuple[str, ...]] = ("golflab",)
    float_share: ClassVar[float] = 0.87
    scale_share: ClassVar[float] = 0.70

    def build(self, shape: Shape, layer: int | None = None) -> Shared:
        """Return the layout."""
        return Shared()


class Shared(Shuffled):
    """A mask of rows, and the integers with the shared row in front."""

    def planes(self, rows: int, columns: int, grid: Grid) -> list[Plane]:
        """Mask, eight rows a byte; shared row and integers."""
        return [Plane(-(-rows // 8), 1, 0), Plane(rows + 1, columns, min(-2 * grid.lowest, 128))]

    def spread(self, integers: np.ndarray, grid: Grid) -> list[np.ndarray]:
        """Find the rows that are alike and take the shared row off them."""
        wide = integers.astype(np.int16)
        shared, mask = _alike(wide)
        differences = wide - mask[:, None] * shared[None, :]
        plane = np.concatenate([shared[None, :], differences]).astype(np.int8)
        return [np.packbits(mask)[:, None], plane]

    def gather(self, contents: list[np.ndarray], rows: int, columns: int, grid: Grid) -> np.ndarray:
        """Put the shared row back; ValueError for an integer off the grid."""
        packed, plane = contents
        mask = np.unpackbits(packed.ravel(), count=rows)
        wide = plane[1:].astype(np.int16) + mask[:, None] * plane[:1].astype(np.int16)
        return super().gather([wide], rows, columns, grid).astype(np.int8)


def _alike(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shared row (columns,) int16 and which rows (rows,) bool are near it; zeros and none where too few are."""
    none = np.zeros(rows.shape[1], dtype=np.int16), np.zeros(len(rows), dtype=bool)
    if len(rows) < FEWEST:
        return none
    sizes = np.abs(rows).sum(axis=1)
    # Tokens of one kind are neighbours in a vocabulary, so a row like the one before it gives the kind away.
    repeats = np.abs(rows[1:] - rows[:-1]).sum(axis=1) < ALIKE * sizes[1:]
    if repeats.sum() < FEWEST:
        return none
    shared = np.round(rows[1:][repeats].mean(axis=0)).astype(np.int16)
    gaps = np.abs(rows - shared)
    mask = (gaps.sum(axis=1) < ALIKE * sizes) & (gaps.max(axis=1, initial=0) <= 127)
    return (shared, mask) if mask.sum() >= FEWEST else none
