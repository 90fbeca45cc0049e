"""One byte per integer, row after row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golflab.model.compression.artifact import Plane
from golflab.model.compression.grid import Grid
from golflab.model.shape import Shape
from golflab.model.technique import Technique


@dataclass(frozen=True)
class RowBytes(Technique):
    """Lay every integer out as one signed byte, row after row, and fp16 numbers as they lie in memory.

    Packing several integers into one byte first gives a smaller raw size but compresses worse, since codecs work on whole
    bytes.
    """

    slot: ClassVar[str] = "layout"
    sources: ClassVar[tuple[str, ...]] = ("openai/parameter-golf baseline", "#295")
    # Packed over raw bytes of a trained fp16 table, and of row scales and gains: measured in benchmarks/bytes.py.
    float_share: ClassVar[float] = 0.92
    scale_share: ClassVar[float] = 0.80

    def build(self, shape: Shape, layer: int | None = None) -> Rows:
        """Return the layout."""
        return Rows()


class Rows:
    """Integers and fp16 numbers as they lie in memory."""

    def planes(self, rows: int, columns: int, grid: Grid) -> list[Plane]:
        """One plane of the matrix's shape."""
        return [Plane(rows, columns, -grid.lowest)]

    def spread(self, integers: np.ndarray, grid: Grid) -> list[np.ndarray]:
        """The matrix itself."""
        return [integers]

    def gather(self, contents: list[np.ndarray], rows: int, columns: int, grid: Grid) -> np.ndarray:
        """The matrix itself, if its integers lie on the grid."""
        (plane,) = contents
        if plane.size and (plane.min() < grid.lowest or plane.max() > grid.largest):
            raise ValueError(f"artifact: an integer lies outside its grid {grid.lowest} … {grid.largest}.")
        return plane

    def float_planes(self, count: int) -> list[Plane]:
        """One plane, two bytes a row."""
        return [Plane(count, 2, 0)]

    def spread_floats(self, numbers: np.ndarray) -> list[np.ndarray]:
        """Low and high byte of each number, side by side."""
        return [numbers.astype("<f2").view(np.uint8).reshape(-1, 2)]

    def gather_floats(self, contents: list[np.ndarray], count: int) -> np.ndarray:
        """The inverse."""
        (plane,) = contents
        return np.ascontiguousarray(plane).view("<f2").reshape(count)
