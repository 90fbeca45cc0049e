"""Container: the outside of an artifact and its header, written and read.

    magic "GOLF" · version u16 · flags u16 · header length u32 · payload length u64 · 16 bytes of SHA-256 · header · payload

The header is zlib-compressed JSON: which layout and codec wrote the payload, name, shape and grid of every tensor, and what is
added to some of them (`golflab.model.compression.additions`). A flag says whether there is something added.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from golflab.model.compression.additions import check_line
from golflab.model.compression.grid import Grid

MAGIC, VERSION = b"GOLF", 1
ADDED = 1  # flag of a file that holds more than its tensors: older programs refuse it
PREFIX = struct.Struct("<4sHHIQ16s")
MOST_HEADER, MOST_TENSORS, MOST_ELEMENTS, MOST_ADDED = 1 << 22, 1 << 16, 1 << 27, 1 << 10
PART = "+"  # parts of additions are called so, with a number; no tensor's name begins with it

Added = tuple[str, str, int, list[str]]  # owner, kind, number and names of the parts of what is added


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


def sealed(head: bytes, payload: bytes, flags: int) -> bytes:
    """The file."""
    sizes = struct.pack("<HHIQ", VERSION, flags, len(head), len(payload))
    digest = hashlib.sha256(sizes + head + payload).digest()[:16]
    return MAGIC + sizes + digest + head + payload


def opened(blob: bytes) -> tuple[bytes, bytes, int]:
    """Header, payload and flags of a file.

    Raises:
        ValueError: it is none, is cut short or damaged, or is of another version.
    """
    if len(blob) < PREFIX.size or blob[:4] != MAGIC:
        raise ValueError(f"artifact: {len(blob)} bytes that do not start with {MAGIC!r}: this is not a golflab artifact.")
    _, version, flags, head_size, payload_size, digest = PREFIX.unpack_from(blob)
    if version != VERSION or flags & ~ADDED:
        raise ValueError(f"artifact: format version {version} (flags {flags}); this program reads version {VERSION} only.")
    if head_size > MOST_HEADER or PREFIX.size + head_size + payload_size != len(blob):
        expected = PREFIX.size + head_size + payload_size
        raise ValueError(f"artifact: the file has {len(blob)} bytes, its header says {expected}: it is truncated or damaged.")
    if hashlib.sha256(blob[4:20] + blob[PREFIX.size :]).digest()[:16] != digest:
        raise ValueError("artifact: the checksum does not match: the file is damaged. Pack or download it again.")
    return blob[PREFIX.size : PREFIX.size + head_size], blob[PREFIX.size + head_size :], flags


def read_header(head: bytes, most_elements: int, flags: int) -> tuple[Any, Any, list[Entry], list[Added]]:
    """What the header names as layout and codec, unchecked; tensors, then the parts of what is added; and what is added.

    Raises:
        ValueError: it does not read, or claims more than ``most_elements`` elements.
    """
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
        if any(entry.name.startswith(PART) for entry in entries):
            raise ValueError(f"the name of a tensor begins with {PART!r}")
        added = _additions(body["added"], entries) if flags & ADDED else []
    except (zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"artifact: the header does not read: {error}.") from None
    if len({e.name for e in entries}) != len(entries):
        raise ValueError("artifact: the header does not read: two tensors share a name.")
    if (total := sum(e.count for e in entries)) > most_elements:
        raise ValueError(f"artifact: it claims {total} elements, more than the {most_elements} allowed.")
    return layout, codec, entries, added


def _additions(rows: Any, entries: list[Entry]) -> list[Added]:
    """The header's lines of what is added; their parts are appended to ``entries``."""
    owners, found = {e.name: e for e in entries if e.grid}, list[Added]()
    if not isinstance(rows, list) or len(rows) > MOST_ADDED:
        raise ValueError(f"more than {MOST_ADDED} additions")
    for owner, kind, numbers, forms in rows:
        parts = [_entry([f"{PART}{len(entries) + i}", shape, levels]) for i, (shape, levels) in enumerate(forms)]
        if owner not in owners or not all(part.grid for part in parts):
            raise ValueError(f"something is added to {owner!r}")
        check_line(kind, numbers, [part.shape for part in parts], owners[owner].shape)
        entries += parts
        found.append((owner, kind, numbers[0], [part.name for part in parts]))
    return found


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
