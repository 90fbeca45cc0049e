"""fp16 numbers split into high and low bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golflab.model.compression.artifact import Plane
from golflab.model.shape import Shape
from golflab.model.technique import Technique
from golflab.model.techniques.pack.row_bytes import Rows


@dataclass(frozen=True)
class ByteShuffle(Technique):
    """Lay integers out as bytes and fp16 numbers as all high bytes, then all low bytes.

    Sign, exponent and the first mantissa bits repeat from number to number, the low byte is noise: apart, an fp16 table
    takes 0.85 of its raw size instead of 0.92.
    """

    slot: ClassVar[str] = "layout"
    sources: ClassVar[tuple[str, ...]] = ("#1499", "#1394")
    float_share: ClassVar[float] = 0.87
    scale_share: ClassVar[float] = 0.70

    def build(self, shape: Shape, layer: int | None = None) -> Shuffled:
        """Return the layout."""
        return Shuffled()


class Shuffled(Rows):
    """Integers as they are, fp16 numbers by byte."""

    def float_planes(self, count: int) -> list[Plane]:
        """High bytes, low bytes."""
        return [Plane(count, 1, 0), Plane(count, 1, 0)]

    def spread_floats(self, numbers: np.ndarray) -> list[np.ndarray]:
        """High bytes, low bytes."""
        pairs = numbers.astype("<f2").view(np.uint8).reshape(-1, 2)
        return [pairs[:, 1:], pairs[:, :1]]

    def gather_floats(self, contents: list[np.ndarray], count: int) -> np.ndarray:
        """The inverse."""
        high, low = contents
        return np.ascontiguousarray(np.hstack([low, high])).view("<f2").reshape(count)
