"""Ternary matrices as indices into a book of 256 vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golflab.model.compression.artifact import Plane
from golflab.model.compression.grid import Grid
from golflab.model.shape import Shape
from golflab.model.technique import Technique
from golflab.model.techniques.pack.byte_shuffle import Shuffled

LENGTH, CODES = 8, 256


@dataclass(frozen=True)
class CodebookBytes(Technique):
    """Store eight trits as one byte, the index of their vector in the matrix's book of 256.

    Lossless for matrices with at most 256 different vectors, which `ternary_codebook` makes them; all others, and all that
    are not ternary, go as `byte_shuffle` lays them out. The book costs 2,048 bytes a matrix.
    """

    slot: ClassVar[str] = "layout"
    sources: ClassVar[tuple[str, ...]] = ("#211",)
    needs: ClassVar[dict[str, str]] = {"ternary_codebook": "without it, a matrix has more than 256 different vectors."}
    float_share: ClassVar[float] = 0.87
    scale_share: ClassVar[float] = 0.70

    def build(self, shape: Shape, layer: int | None = None) -> Codebook:
        """Return the layout."""
        return Codebook()


class Codebook(Shuffled):
    """A book (256, 8) and an index per vector."""

    def planes(self, rows: int, columns: int, grid: Grid) -> list[Plane]:
        """Book and indices."""
        if not _coded(columns, grid):
            return super().planes(rows, columns, grid)
        return [Plane(CODES, LENGTH, 1), Plane(rows, columns // LENGTH, 0)]

    def spread(self, integers: np.ndarray, grid: Grid) -> list[np.ndarray]:
        """The distinct vectors, most frequent first, and where each stands.

        Raises:
            ValueError: there are more than 256.
        """
        rows, columns = integers.shape
        if not _coded(columns, grid):
            return super().spread(integers, grid)
        vectors, indices, counts = np.unique(integers.reshape(-1, LENGTH), axis=0, return_inverse=True, return_counts=True)
        if len(vectors) > CODES:
            raise ValueError(
                f"codebook_bytes: a matrix holds {len(vectors)} different vectors of 8, not the 256 an index can name."
            )
        order = np.argsort(-counts, kind="stable")
        book = np.zeros((CODES, LENGTH), dtype=np.int8)
        book[: len(order)] = vectors[order]
        places = np.argsort(order, kind="stable")
        return [book, places[indices.ravel()].astype(np.uint8).reshape(rows, -1)]

    def gather(self, contents: list[np.ndarray], rows: int, columns: int, grid: Grid) -> np.ndarray:
        """The inverse."""
        if not _coded(columns, grid):
            return super().gather(contents, rows, columns, grid)
        book, indices = contents
        if np.abs(book.astype(np.int16)).max(initial=0) > 1:
            raise ValueError("artifact: a codebook of trits holds another integer.")
        return np.ascontiguousarray(book[indices].reshape(rows, columns))


def _coded(columns: int, grid: Grid) -> bool:
    return grid == Grid(1, -1) and columns % LENGTH == 0
