"""Artifact: quantised parameters to one flat binary file, and back.

    magic "GOLF" · version u16 · flags u16 · header length u32 · payload length u64 · 16 bytes of SHA-256 · header · payload

The header is zlib-compressed JSON: which layout and codec wrote the payload, and name, shape and grid of every tensor.
The layout lays the integers out as planes (2-D arrays of bytes), the codec turns all planes into the payload. All numbers
are little-endian. Reading never executes anything from the file: technique names are looked up among this package's own
layouts and codecs, sizes are checked against the header before memory is taken, and whatever is wrong is a ValueError.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from golflab.model.compression.grid import Grid, Quantised
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, find

MAGIC, VERSION = b"GOLF", 1
PREFIX = struct.Struct("<4sHHIQ16s")
MOST_HEADER, MOST_TENSORS, MOST_ELEMENTS = 1 << 22, 1 << 16, 1 << 27


class Plane(NamedTuple):
    """Form of a 2-D array of bytes: the smallest unit a codec sees.

    Attributes:
        rows, columns: its shape.
        largest: its values are integers around zero of at most this magnitude, int8; 0 for plain bytes without an order,
            uint8.
    """

    rows: int
    columns: int
    largest: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.rows * self.columns

    @property
    def dtype(self) -> type:
        """int8 for integers, uint8 for bytes."""
        return np.int8 if self.largest else np.uint8


class Layout(Protocol):
    """What a technique in the slot `layout` builds: tensors to planes and back."""

    def planes(self, rows: int, columns: int, grid: Grid) -> list[Plane]:
        """Forms of the planes a matrix of integers is laid out as."""

    def spread(self, integers: np.ndarray, grid: Grid) -> list[np.ndarray]:
        """(rows, columns) int8 -> the planes' contents."""

    def gather(self, contents: list[np.ndarray], rows: int, columns: int, grid: Grid) -> np.ndarray:
        """The planes' contents -> (rows, columns) int8; ValueError if they cannot have been written by `spread`."""

    def float_planes(self, count: int) -> list[Plane]:
        """Forms of the planes ``count`` fp16 numbers are laid out as."""

    def spread_floats(self, numbers: np.ndarray) -> list[np.ndarray]:
        """(count,) float16 -> the planes' contents."""

    def gather_floats(self, contents: list[np.ndarray], count: int) -> np.ndarray:
        """The planes' contents -> (count,) float16."""


class Codec(Protocol):
    """What a technique in the slot `codec` builds: planes to a payload and back."""

    def encode(self, contents: list[np.ndarray], forms: list[Plane]) -> bytes:
        """All planes, in order -> payload."""

    def decode(self, payload: bytes, forms: list[Plane]) -> list[np.ndarray]:
        """Payload -> all planes, int8 or uint8 of the forms' shapes; ValueError for anything `encode` cannot have written."""


@dataclass(frozen=True)
class Entry:
    """A line of the header: one tensor."""

    name: str
    shape: tuple[int, ...]
    grid: Grid | None

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def pack(quantised: dict[str, Quantised], recipe: Recipe) -> bytes:
    """Write the file: header, checksum and payload, by the recipe's layout and codec. The same input gives the same bytes.

    Raises:
        ValueError: the codec's package is missing.
    """
    layout_technique, codec_technique = recipe.tenant("layout"), recipe.tenant("codec")
    assert layout_technique is not None
    assert codec_technique is not None
    layout: Layout = recipe.build("layout")
    codec: Codec = recipe.build("codec")
    entries = [Entry(q.info.name, tuple(q.info.shape), q.grid) for q in quantised.values()]
    contents = [plane for q in quantised.values() if q.grid for plane in layout.spread(q.values.numpy(), q.grid)]
    contents += layout.spread_floats(_floats(list(quantised.values())))
    header = {
        "layout": [layout_technique.name, layout_technique.settings()],
        "codec": [codec_technique.name, codec_technique.settings()],
        "tensors": [[e.name, list(e.shape), list(e.grid) if e.grid else []] for e in entries],
    }
    head = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    payload = codec.encode(contents, _forms(entries, layout))
    return _sealed(head, payload)


def unpack(blob: bytes, most_elements: int = MOST_ELEMENTS) -> dict[str, Tensor]:
    """Read a file of `pack`: name -> float32 tensor, equal to `Quantised.dequantised`.

    Args:
        blob: the file.
        most_elements: files that claim more elements than this are refused, so that no file can use up the memory.

    Raises:
        ValueError: it is not such a file, it is damaged, or its header does not match its content.
    """
    head, payload = _opened(blob)
    layout_name, codec_name, entries = _read_header(head, most_elements)
    layout: Layout = _built(layout_name, "layout")
    codec: Codec = _built(codec_name, "codec")
    forms = _forms(entries, layout)
    contents = iter(codec.decode(payload, forms))
    matrices: dict[str, np.ndarray] = {}
    for entry in entries:
        if entry.grid:
            rows, columns = entry.shape
            mine = [next(contents) for _ in layout.planes(rows, columns, entry.grid)]
            matrices[entry.name] = layout.gather(mine, rows, columns, entry.grid)
    numbers = layout.gather_floats(list(contents), _float_count(entries)).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError("artifact: a scale or a small tensor is not finite; the file was not written by `pack`.")
    return _assembled(entries, matrices, numbers)


# ---------------------------------------------------------------------------------------------- planes and floats


def _forms(entries: list[Entry], layout: Layout) -> list[Plane]:
    planes = [p for e in entries if e.grid for p in layout.planes(e.shape[0], e.shape[1], e.grid)]
    return planes + layout.float_planes(_float_count(entries))


def _float_count(entries: list[Entry]) -> int:
    return sum(e.shape[0] if e.grid else e.count for e in entries)


def _floats(quantised: list[Quantised]) -> np.ndarray:
    """All fp16 numbers of the file in one vector: every matrix's scales, every other tensor, in the tensors' order."""
    parts = [q.values if q.scales is None else q.scales for q in quantised]
    return np.concatenate([p.numpy().astype(np.float16).ravel() for p in parts] or [np.zeros(0, np.float16)])


def _assembled(entries: list[Entry], matrices: dict[str, np.ndarray], numbers: np.ndarray) -> dict[str, Tensor]:
    weights, position = {}, 0
    for entry in entries:
        taken = entry.shape[0] if entry.grid else entry.count
        mine = torch.from_numpy(numbers[position : position + taken].copy())
        position += taken
        if entry.grid:
            weights[entry.name] = torch.from_numpy(matrices[entry.name].astype(np.float32)) * mine[:, None]
        else:
            weights[entry.name] = mine.reshape(entry.shape)
    return weights


# ---------------------------------------------------------------------------------------------- container


def _sealed(head: bytes, payload: bytes) -> bytes:
    sizes = struct.pack("<HHIQ", VERSION, 0, len(head), len(payload))
    digest = hashlib.sha256(sizes + head + payload).digest()[:16]
    return MAGIC + sizes + digest + head + payload


def _opened(blob: bytes) -> tuple[bytes, bytes]:
    if len(blob) < PREFIX.size or blob[:4] != MAGIC:
        raise ValueError(f"artifact: {len(blob)} bytes that do not start with {MAGIC!r}: this is not a golflab artifact.")
    _, version, flags, head_size, payload_size, digest = PREFIX.unpack_from(blob)
    if version != VERSION or flags:
        raise ValueError(f"artifact: format version {version} (flags {flags}); this program reads version {VERSION} only.")
    if head_size > MOST_HEADER or PREFIX.size + head_size + payload_size != len(blob):
        expected = PREFIX.size + head_size + payload_size
        raise ValueError(f"artifact: the file has {len(blob)} bytes, its header says {expected}: it is truncated or damaged.")
    if hashlib.sha256(blob[4:20] + blob[PREFIX.size :]).digest()[:16] != digest:
        raise ValueError("artifact: the checksum does not match: the file is damaged. Pack or download it again.")
    return blob[PREFIX.size : PREFIX.size + head_size], blob[PREFIX.size + head_size :]


def _read_header(head: bytes, most_elements: int) -> tuple[Any, Any, list[Entry]]:
    try:
        reader = zlib.decompressobj()
        text = reader.decompress(head, MOST_HEADER)
        if not reader.eof or reader.unused_data:
            raise ValueError("it does not end where it should")
        body = json.loads(text)
        rows = body["tensors"]
        layout, codec = body["layout"], body["codec"]
        if not isinstance(rows, list) or len(rows) > MOST_TENSORS:
            raise ValueError(f"more than {MOST_TENSORS} tensors")
        entries = [_entry(row) for row in rows]
    except (zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"artifact: the header does not read: {error}.") from None
    if len({e.name for e in entries}) != len(entries):
        raise ValueError("artifact: the header does not read: two tensors share a name.")
    if (total := sum(e.count for e in entries)) > most_elements:
        raise ValueError(f"artifact: it claims {total} elements, more than the {most_elements} allowed.")
    return layout, codec, entries


def _entry(row: Any) -> Entry:
    name, shape, levels = row
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in [*shape, *levels])
    if not isinstance(name, str) or not whole or len(shape) > 8 or any(not 0 <= n <= MOST_ELEMENTS for n in shape):
        raise ValueError(f"a tensor has the shape {shape!r}")
    if not levels:
        return Entry(name, tuple(shape), None)
    largest, lowest = levels
    if len(shape) != 2 or not 1 <= largest <= 127 or lowest not in (-largest, -largest - 1):
        raise ValueError(f"tensor {name!r} has the grid {levels!r} and the shape {shape!r}")
    return Entry(name, tuple(shape), Grid(largest, lowest))


def _built(named: Any, slot: str) -> Any:
    """Build the layout or codec a header names; only techniques of that slot, found in this package, are ever built."""
    try:
        name, settings = named
        technique: type[Technique] = find(name)
        if technique.slot != slot:
            raise ValueError(f"{name!r} fills the slot {technique.slot!r}")
        return technique(**settings).build(Shape())
    except (ValueError, TypeError) as error:
        raise ValueError(f"artifact: the header names no {slot} this program has: {error}") from None


def inflated(read: Callable[[], bytes], size: int, codec: str) -> bytes:
    """Run a decompressor that was told to stop after ``size`` bytes and check that it gave exactly those.

    Raises:
        ValueError: it failed, or gave another number of bytes.
    """
    try:
        data = read()
    except Exception as error:  # every codec has its own type of exception; here they all mean damage
        raise ValueError(f"artifact: the {codec} payload does not decode: {error}.") from None
    if len(data) != size:
        raise ValueError(f"artifact: the {codec} payload holds {len(data)} bytes, the header says {size}.")
    return data


def joined(contents: list[np.ndarray]) -> bytes:
    """All planes joined into one string of bytes, for codecs that take bytes."""
    return b"".join(np.ascontiguousarray(c).tobytes() for c in contents)


def divided(data: bytes, forms: list[Plane]) -> list[np.ndarray]:
    """The inverse of `joined`."""
    planes, position = [], 0
    for form in forms:
        part: np.ndarray = np.frombuffer(data, form.dtype, form.size, position)
        planes.append(part.reshape(form.rows, form.columns))
        position += form.size
    return planes
