"""Token shards in the challenge's format, and a stream that reads through many of them as if they were one.

A shard is 256 little-endian int32 (magic 20240520, version 1, number of tokens, zeros) followed by that many
little-endian uint16. Shards are memory-mapped: workers on one machine share the pages, and opening costs nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from golflab.model.system.files import atomic, locked

MAGIC, VERSION, HEADER_BYTES = 20240520, 1, 1024
BOS = 1  # id every document begins with, here and in the challenge; a tokenizer that has another exchanges the two
FUSED = range(9, 12)  # ids of a space and a marker as one token, where a text fuses them (`golflab.model.data.rewriting`)


def read_shard(path: Path) -> np.ndarray:
    """Memory-map a shard's tokens: (tokens,) uint16, read-only.

    Raises:
        ValueError: not a shard, another version of the format, or a file shorter or longer than its header says.
    """
    try:
        size = path.stat().st_size if path.is_file() else 0
        header = np.fromfile(path, dtype="<i4", count=3) if size >= HEADER_BYTES else np.zeros(3, "<i4")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    if header[0] != MAGIC:
        raise ValueError(f"{path} is not a token shard: it does not begin with {MAGIC}. Point to files made for the challenge.")
    if header[1] != VERSION:
        raise ValueError(f"{path}: shard version {header[1]} is not known; this program reads version {VERSION}.")
    expected = HEADER_BYTES + 2 * int(header[2])
    if size != expected:
        raise ValueError(f"{path}: its header promises {expected} bytes, the file has {size}. Download it again.")
    if header[2] == 0:
        return np.zeros(0, dtype="<u2")
    return np.memmap(path, dtype="<u2", mode="r", offset=HEADER_BYTES, shape=(int(header[2]),))


def write_shard(path: Path, pieces: Iterable[np.ndarray]) -> int:
    """Write token arrays one after another as one shard, atomically; return how many tokens it holds."""
    count = 0
    with atomic(path) as file:
        file.write(bytes(HEADER_BYTES))
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype="<u2").tobytes())
            count += len(piece)
        header = np.zeros(HEADER_BYTES // 4, dtype="<i4")
        header[:3] = MAGIC, VERSION, count
        file.seek(0)
        file.write(header.tobytes())
    return count


def stage(path: Path, local_disk: Path | None) -> Path:
    """Copy a shard to a disk of this node, once however many processes ask, and return the copy.

    Where there is no room for it, or no ``local_disk`` is given, the shard itself is returned. A copy is known by the
    shard's path, size and time of change, so a shard that changed is copied again.
    """
    if local_disk is None:
        return path
    status = path.stat()
    name = hashlib.sha256(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]
    local_disk.mkdir(parents=True, exist_ok=True)
    copy = local_disk / f"{name}-{path.name}"
    with locked(copy.with_suffix(".lock")):
        if copy.exists() and copy.stat().st_size == status.st_size:
            return copy
        temporary = copy.with_suffix(".tmp")  # one writer: the lock is held
        try:
            shutil.copyfile(path, temporary)
        except OSError:
            temporary.unlink(missing_ok=True)
            return path
        os.replace(temporary, copy)
    return copy


class Stream:
    """Token arrays read as one endless stream: past the last token it begins again.

    Args:
        parts: token arrays, (tokens,) uint16, in order.
        bos: id of BOS in the parts; in what is read from the stream, this id and `BOS` are exchanged.
    """

    def __init__(self, parts: Sequence[np.ndarray], bos: int = BOS) -> None:
        self.bos = bos
        self.parts = [part for part in parts if len(part)]
        self.ends = np.cumsum([len(part) for part in self.parts], dtype=np.int64)
        if not self.parts:
            raise ValueError("the training stream holds no tokens; give a corpus with text in it.")

    def __len__(self) -> int:
        return int(self.ends[-1])

    def take(self, start: int, count: int) -> np.ndarray:
        """Copy ``count`` tokens from position ``start`` on, wrapping at the end: (count,) uint16."""
        out = np.empty(count, dtype=np.uint16)
        filled, position = 0, start % len(self)
        while filled < count:
            index = int(np.searchsorted(self.ends, position, side="right"))
            part = self.parts[index]
            offset = position - (int(self.ends[index]) - len(part))
            piece = part[offset : offset + count - filled]
            out[filled : filled + len(piece)] = piece
            filled += len(piece)
            position = (position + len(piece)) % len(self)
        return exchanged(out, self.bos)

    def where(self, token: int) -> np.ndarray:
        """Positions at which ``token`` stands, in order: (hits,) int64. Reads the whole stream."""
        token = int(exchanged(np.array([token]), self.bos)[0])
        begins = self.ends - [len(part) for part in self.parts]
        return np.concatenate([begin + np.flatnonzero(part == token) for begin, part in zip(begins, self.parts, strict=True)])


def exchanged(tokens: np.ndarray, bos: int) -> np.ndarray:
    """Tokens with the ids ``bos`` and `BOS` exchanged, there and back: (n,) -> (n,); the same array where they are one."""
    if bos == BOS:
        return tokens
    out = np.array(tokens)
    out[np.asarray(tokens) == bos] = BOS
    out[np.asarray(tokens) == BOS] = bos
    return out


def split_documents(tokens: np.ndarray, bos: int = BOS) -> list[np.ndarray]:
    """Cut a token array in front of every ``bos``: views, each a document that begins with it.

    Tokens in front of the first ``bos`` (the tail of a document that began in another shard) are a document too.
    """
    if not len(tokens):
        return []
    starts = np.flatnonzero(np.asarray(tokens) == bos)
    if not len(starts) or starts[0] != 0:
        starts = np.concatenate([[0], starts])
    ends = np.append(starts[1:], len(tokens))
    return [tokens[start:end] for start, end in zip(starts, ends, strict=True)]
