"""zlib (deflate)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from golflab.model.compression.artifact import Plane, divided, inflated, joined
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class ZlibCodec(Technique):
    """Compress all planes as one zlib stream.

    It is available everywhere. At int5 and int6 it takes 5 to 16 % more than the entropy, because its Huffman codes are whole
    bits.
    """

    slot: ClassVar[str] = "codec"
    sources: ClassVar[tuple[str, ...]] = ("#211", "#1499", "openai/parameter-golf baseline")
    overhead: ClassVar[dict[float, float]] = {
        **{1.58: 1.17, 2.0: 1.2, 2.7: 1.175, 3.33: 1.16, 4.0: 1.145, 4.3: 1.13},
        **{4.7: 1.1, 5.0: 1.071, 5.3: 1.047, 5.65: 1.027, 6.0: 1.02, 7.35: 1.009},
    }
    whole_bits: ClassVar[bool] = False

    level: int = knob(9, 1, 9)

    def build(self, shape: Shape, layer: int | None = None) -> Zlib:
        """Return the codec."""
        return Zlib(self.level)


@dataclass(frozen=True)
class Zlib:
    """zlib at ``level``."""

    level: int

    def encode(self, contents: list[np.ndarray], forms: list[Plane]) -> bytes:
        """Planes -> payload."""
        return zlib.compress(joined(contents), self.level)

    def decode(self, payload: bytes, forms: list[Plane]) -> list[np.ndarray]:
        """Payload -> planes; ValueError if it is damaged."""
        size = sum(form.size for form in forms)

        def read() -> bytes:
            reader = zlib.decompressobj()
            data = reader.decompress(payload, size + 1)
            if reader.unconsumed_tail or not reader.eof or reader.unused_data:
                raise ValueError("it does not end where it should")
            return data

        return divided(inflated(read, size, "zlib"), forms)
