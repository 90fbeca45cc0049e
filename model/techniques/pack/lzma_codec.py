"""LZMA."""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golflab.model.compression.artifact import Plane, divided, inflated, joined
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class LzmaCodec(Technique):
    """Compress all planes as one raw LZMA2 stream.

    Its adaptive binary models cost 1.5 to 10 % over the entropy on independent integers; it needs no package.
    """

    slot: ClassVar[str] = "codec"
    sources: ClassVar[tuple[str, ...]] = ("#680", "#1019")
    overhead: ClassVar[dict[float, float]] = {1.58: 1.09, 3.33: 1.035, 4.27: 1.02, 5.31: 1.009, 7.35: 1.008}
    whole_bits: ClassVar[bool] = False

    preset: int = knob(9, 0, 9)

    def build(self, shape: Shape, layer: int | None = None) -> Lzma:
        """Return the codec."""
        return Lzma(self.preset)


@dataclass(frozen=True)
class Lzma:
    """Raw LZMA2 at ``preset``, extreme, tuned for bytes without alignment or text structure."""

    preset: int

    @property
    def filters(self) -> list[dict[str, int]]:
        """The filter chain both directions use; the window is the payload's own, at most 32 MB."""
        return [
            {
                "id": lzma.FILTER_LZMA2,
                "preset": self.preset | lzma.PRESET_EXTREME,
                "lc": 0,
                "lp": 0,
                "pb": 0,
                "dict_size": 1 << 25,
            }
        ]

    def encode(self, contents: list[np.ndarray], forms: list[Plane]) -> bytes:
        """Planes -> payload."""
        return lzma.compress(joined(contents), lzma.FORMAT_RAW, filters=self.filters)

    def decode(self, payload: bytes, forms: list[Plane]) -> list[np.ndarray]:
        """Payload -> planes; ValueError if it is damaged."""
        size = sum(form.size for form in forms)

        def read() -> bytes:
            return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=self.filters).decompress(payload, size + 1)

        return divided(inflated(read, size, "lzma"), forms)
