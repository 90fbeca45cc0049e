"""Additions: what is stored beside a matrix of integers and added to it when the file is read.

A matrix on a grid may hold zeros where some of its columns are kept on a finer grid (`Columns`), and a product of two thin
matrices may be added to all of it (`Product`). Each is made of `Part`s: matrices of integers with scales of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from golflab.model.compression.grid import Grid

MOST_RANK = 64


@dataclass(frozen=True)
class Part:
    """Integers with a grid and one scale per row.

    Attributes:
        grid: the range of ``values``.
        values: (rows, columns) int8.
        scales: (rows,) float16.
    """

    grid: Grid
    values: Tensor
    scales: Tensor

    def dequantised(self) -> Tensor:
        """(rows, columns) float32."""
        return self.values.float() * self.scales.float()[:, None]


@dataclass(frozen=True)
class Columns:
    """Columns ``start``… of a matrix, whose own integers are zero there."""

    kind: ClassVar[str] = "columns"
    start: int
    part: Part

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is stored of it."""
        return (self.part,)

    @property
    def numbers(self) -> tuple[int, ...]:
        """What the header holds of it."""
        return (self.start,)

    def added_to(self, matrix: Tensor) -> Tensor:
        """(rows, columns) float32 -> the same with these columns."""
        out, block = matrix.clone(), self.part.dequantised()
        out[:, self.start : self.start + block.shape[1]] += block
        return out


@dataclass(frozen=True)
class Product:
    """left (rows, rank) times right (rank, columns), each stored as its entries in a row, in lines of equal length.

    Attributes:
        rank: of the product.
        left, right: the entries, row after row; the last line is filled up with zeros.
    """

    kind: ClassVar[str] = "product"
    rank: int
    left: Part
    right: Part

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is stored of it."""
        return (self.left, self.right)

    @property
    def numbers(self) -> tuple[int, ...]:
        """What the header holds of it."""
        return (self.rank,)

    def added_to(self, matrix: Tensor) -> Tensor:
        """(rows, columns) float32 -> the same plus the product."""
        rows, columns = matrix.shape
        left = self.left.dequantised().flatten()[: rows * self.rank].view(rows, self.rank)
        right = self.right.dequantised().flatten()[: self.rank * columns].view(self.rank, columns)
        # One rank after the other, in elementwise steps: a matrix product may round otherwise on another machine.
        for r in range(self.rank):
            matrix = matrix + left[:, r, None] * right[r]
        return matrix


Addition = Columns | Product


def lines(entries: Tensor, length: int) -> Tensor:
    """A vector (n,) as lines of ``length``, the last one filled up with zeros: (⌈n/length⌉, length)."""
    count = -(-entries.numel() // length)
    return torch.nn.functional.pad(entries, (0, count * length - entries.numel())).view(count, length)


def line(addition: Addition) -> list[Any]:
    """An addition's line in a file's header, without its owner: kind, numbers, and shape and grid of each part."""
    parts = [[list(part.values.shape), list(part.grid)] for part in addition.parts]
    return [addition.kind, list(addition.numbers), parts]


def check_line(kind: Any, numbers: Any, shapes: Sequence[tuple[int, ...]], owner: tuple[int, ...]) -> None:
    """Refuse a header's line that no addition has written.

    Args:
        kind, numbers: as `line` wrote them.
        shapes: of its parts.
        owner: shape of the matrix it is added to.

    Raises:
        ValueError: it does not fit.
    """
    if not isinstance(numbers, list) or len(numbers) != 1 or type(numbers[0]) is not int or len(owner) != 2:
        raise ValueError(f"an addition has the numbers {numbers!r}")
    (number,), (rows, columns) = numbers, owner
    sizes = [math.prod(shape) for shape in shapes]
    if kind == Columns.kind:
        fits = len(shapes) == 1 and shapes[0][0] == rows and 0 <= number < number + shapes[0][1] <= columns
    else:
        fits = kind == Product.kind and len(shapes) == 2 and 1 <= number <= MOST_RANK
        fits = fits and sizes[0] >= rows * number and sizes[1] >= number * columns
    if not fits:
        raise ValueError(f"an addition {kind!r} with the shapes {list(shapes)!r} does not fit a matrix {owner!r}")


def made(kind: str, number: int, parts: Sequence[Part]) -> Addition:
    """The addition that a checked line stands for."""
    return Columns(number, parts[0]) if kind == Columns.kind else Product(number, parts[0], parts[1])
