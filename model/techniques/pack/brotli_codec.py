"""Brotli."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np

from golflab.model.compression.artifact import Plane, divided, inflated, joined
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class BrotliCodec(Technique):
    """Compress all planes as one Brotli stream.

    Quality 11 beats zstd-22 by a few thousandths on weights and takes a minute for 27 million of them. #1499 shuffles the
    bytes of the whole stream by twos; the layout `byte_shuffle` does it where it helps, on fp16 numbers.
    """

    slot: ClassVar[str] = "codec"
    sources: ClassVar[tuple[str, ...]] = ("#1499", "#1394")
    overhead: ClassVar[dict[float, float]] = {1.58: 1.0, 3.33: 0.997, 7.35: 0.999}
    whole_bits: ClassVar[bool] = True

    quality: int = knob(11, 0, 11)

    def build(self, shape: Shape, layer: int | None = None) -> Brotli:
        """Return the codec."""
        return Brotli(self.quality)


def _brotli() -> ModuleType:
    try:
        import brotli
    except ImportError:
        raise ValueError("brotli_codec needs the package `brotli`: pip install brotli, or choose another codec.") from None
    module: ModuleType = brotli
    return module


@dataclass(frozen=True)
class Brotli:
    """Brotli at ``quality`` with its largest standard window."""

    quality: int

    def encode(self, contents: list[np.ndarray], forms: list[Plane]) -> bytes:
        """Planes -> payload."""
        data: bytes = _brotli().compress(joined(contents), quality=self.quality, lgwin=24)
        return data

    def decode(self, payload: bytes, forms: list[Plane]) -> list[np.ndarray]:
        """Payload -> planes; ValueError if it is damaged."""
        size, brotli = sum(form.size for form in forms), _brotli()

        def read() -> bytes:
            # In portions, so that a few hostile bytes cannot unfold into more than the header admits.
            reader, data, portion = brotli.Decompressor(), b"", payload
            while True:
                part = reader.process(portion, output_buffer_limit=size + 1 - len(data))
                data, portion = data + part, b""
                if reader.is_finished() or len(data) > size or not part:
                    return data

        return divided(inflated(read, size, "brotli"), forms)
