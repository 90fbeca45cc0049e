"""Files of text, read line by line: plain, gzip or zstd. Memory stays bounded, and every error names the file and the line."""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

BLOCK = 1 << 20  # bytes read at once
PORTION = 1 << 11  # compressed bytes expanded at once; at the largest ratio they become 64 MB
LONGEST = 1 << 24  # bytes a line may have
EXPANSION = 1_000  # times its size a compressed file may hold; text compresses 3 to 30 times, repeated text 300 times
KINDS = (".txt", ".jsonl")
PACKINGS = ("", ".zst", ".gz")
SUFFIXES = tuple(kind + packing for kind in KINDS for packing in PACKINGS)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Number, counted from 1, and text of every line of a file; a line keeps its ``\n``, and ``\r\n`` and ``\r`` become one.

    A byte order mark of UTF-8 is left out.

    Raises:
        ValueError: no ordinary file, not readable, damaged or cut short, not UTF-8, or a line of more than `LONGEST` bytes.
    """
    number, kept, size = 1, list[bytes](), 0
    for block in _one_line_end(_blocks(path)):
        *whole, rest = block.split(b"\n")
        for part in whole:
            yield number, _decoded(path, number, b"".join([*kept, part, b"\n"]))
            number, size = number + 1, 0
            kept.clear()
        kept.append(rest)
        size += len(rest)
        if size > LONGEST:
            raise ValueError(f"{path}, line {number}: longer than {LONGEST:,} bytes; cut the text into documents.")
    if size:
        yield number, _decoded(path, number, b"".join(kept))


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).decode()
    except UnicodeDecodeError as error:
        why = f"{error.reason} at byte {error.start} of the line"
        raise ValueError(f"{path}, line {number}: not UTF-8 text ({why}); convert the file to UTF-8.") from None


def _one_line_end(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Every line end as ``\\n``, also one that two blocks share."""
    held = b""
    for block in chain(blocks, (b"",)):
        text = held + block
        held = b"\r" if block and text.endswith(b"\r") else b""
        text = text.removesuffix(held) if held else text
        yield re.sub(rb"\r\n?", b"\n", text) if b"\r" in text else text


def raw(path: Path, portion: int = BLOCK) -> Iterator[bytes]:
    """A file's content in blocks: as many bytes as it had when it was opened, because some special files never end.

    Raises:
        ValueError: no ordinary file, not readable, or shorter than when it was opened.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(f"{path} is no ordinary file (a device, a pipe or a socket); remove it, or give a file of text.")
        with open(path, "rb") as file:
            left = os.fstat(file.fileno()).st_size
            while left:
                block = file.read(min(portion, left))
                if not block:
                    raise ValueError(f"{path} became shorter while it was read; try again when nobody writes to it.")
                left -= len(block)
                yield block
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}. If it is a link to nothing, remove it.") from None


def _blocks(path: Path) -> Iterator[bytes]:
    """A file's text as bytes, expanded where its name says that it is compressed."""
    packing = next(p for p in reversed(PACKINGS) if path.name.endswith(p))
    yield from _checked(path, _expanded(path, raw(path, PORTION), packing) if packing else raw(path))


def _checked(path: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same blocks, unless the first shows that the text is UTF-16 or UTF-32."""
    first = next(blocks, b"")
    while len(first) < 4 and (more := next(blocks, b"")):
        first += more
    if first.startswith((b"\xff\xfe", b"\xfe\xff")) or first[:4096].count(0) > len(first[:4096]) // 5:
        raise ValueError(f"{path}, line 1: UTF-16 or UTF-32 text; convert the file to UTF-8.")
    yield first
    yield from blocks


def _expanded(path: Path, blocks: Iterator[bytes], packing: str) -> Iterator[bytes]:
    """Decompress any number of frames, one behind the other."""
    frame, taken, made = None, 0, 0
    for block in blocks:
        taken += len(block)
        while block:
            frame = frame or _frame(packing)
            try:
                text = frame.decompress(block)
            except Exception as error:  # zlib.error, zstandard.ZstdError: what follows is the same
                raise ValueError(f"{path}: no {packing} file, or damaged ({error}); compress it again.") from None
            made += len(text)
            if made > EXPANSION * taken + LONGEST:
                raise ValueError(f"{path}: expands to more than {EXPANSION:,} times its size, which no text does.")
            if text:
                yield text
            block = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise ValueError(f"{path}: ends in the middle of its compressed data; it was cut short. Copy or download it again.")


def _frame(packing: str) -> Any:
    if packing == ".gz":
        return zlib.decompressobj(31)  # 31: gzip with its header
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj()
