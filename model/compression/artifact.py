"""Artifact: quantised parameters to one flat binary file, and back.

The file is a header and a payload (`golflab.model.compression.container`). The layout lays the integers out as planes (2-D
arrays of bytes), the codec turns all planes into the payload. All numbers are little-endian. Reading never executes anything
from the file: technique names are looked up among this package's own layouts and codecs, sizes are checked against the header
before memory is taken, and whatever is wrong is a ValueError.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from golflab.model.compression import additions
from golflab.model.compression.container import ADDED, MOST_ELEMENTS, PART, Added, Entry, opened, read_header, sealed
from golflab.model.compression.grid import Grid, Quantised
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, find


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


def pack(quantised: dict[str, Quantised], recipe: Recipe) -> bytes:
    """Write the file: header, checksum and payload, by the recipe's layout and codec. The same input gives the same bytes.

    Raises:
        ValueError: the codec's package is missing.
    """
    layout_technique, codec_technique = recipe.technique_in("layout"), recipe.technique_in("codec")
    assert layout_technique is not None
    assert codec_technique is not None
    layout: Layout = recipe.build("layout")
    codec: Codec = recipe.build("codec")
    entries = [Entry(q.info.name, tuple(q.info.shape), q.grid) for q in quantised.values()]
    added = [(q.info.name, addition) for q in quantised.values() for addition in q.added]
    parts = [part for _, addition in added for part in addition.parts]
    integers = [*((q.values, q.grid) for q in quantised.values() if q.grid), *((part.values, part.grid) for part in parts)]
    contents = [plane for values, grid in integers for plane in layout.spread(values.numpy(), grid)]
    numbers = [q.values if q.scales is None else q.scales for q in quantised.values()] + [part.scales for part in parts]
    contents += layout.spread_floats(_floats(numbers))
    header: dict[str, Any] = {
        "layout": [layout_technique.name, layout_technique.settings()],
        "codec": [codec_technique.name, codec_technique.settings()],
        "tensors": [[e.name, list(e.shape), list(e.grid) if e.grid else []] for e in entries],
    }
    if added:
        header["added"] = [[name, *additions.line(addition)] for name, addition in added]
    head = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    entries += [Entry(f"{PART}{len(entries) + i}", tuple(part.values.shape), part.grid) for i, part in enumerate(parts)]
    payload = codec.encode(contents, _forms(entries, layout))
    return sealed(head, payload, ADDED if added else 0)


def unpack(blob: bytes, most_elements: int = MOST_ELEMENTS) -> dict[str, Tensor]:
    """Read a file of `pack`: name -> float32 tensor, equal to `Quantised.dequantised`.

    Args:
        blob: the file.
        most_elements: files that claim more elements than this are refused, so that no file can use up the memory.

    Raises:
        ValueError: it is not such a file, it is damaged, or its header does not match its content.
    """
    head, payload, flags = opened(blob)
    layout_name, codec_name, entries, added = read_header(head, most_elements, flags)
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
    return _assembled(entries, matrices, numbers, added)


# ---------------------------------------------------------------------------------------------- planes and floats


def _forms(entries: list[Entry], layout: Layout) -> list[Plane]:
    planes = [p for e in entries if e.grid for p in layout.planes(e.shape[0], e.shape[1], e.grid)]
    return planes + layout.float_planes(_float_count(entries))


def _float_count(entries: list[Entry]) -> int:
    return sum(e.shape[0] if e.grid else e.count for e in entries)


def _floats(numbers: list[Tensor]) -> np.ndarray:
    """All fp16 numbers of the file in one vector: every matrix's scales, every other tensor, the scales of what is added."""
    return np.concatenate([n.numpy().astype(np.float16).ravel() for n in numbers] or [np.zeros(0, np.float16)])


def _assembled(
    entries: list[Entry], matrices: dict[str, np.ndarray], numbers: np.ndarray, added: list[Added]
) -> dict[str, Tensor]:
    weights, parts, position = {}, {}, 0
    for entry in entries:
        taken = entry.shape[0] if entry.grid else entry.count
        mine = torch.from_numpy(numbers[position : position + taken].copy())
        position += taken
        if entry.name.startswith(PART) and entry.grid:
            parts[entry.name] = additions.Part(entry.grid, torch.from_numpy(matrices[entry.name].copy()), mine)
        elif entry.grid:
            weights[entry.name] = torch.from_numpy(matrices[entry.name].astype(np.float32)) * mine[:, None]
        else:
            weights[entry.name] = mine.reshape(entry.shape)
    for owner, kind, number, names in added:
        weights[owner] = additions.made(kind, number, [parts[name] for name in names]).added_to(weights[owner])
    return weights


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
