"""Overlap: how much of the held-out text is also in the training text.

A model gets too good a score on text that it was trained on. Both whole documents and windows are searched for. The windows of
a held-out document lie end to end, and every position of the training text is compared, so that a copy is found wherever it
is. Windows are compared by 64-bit hashes: with a million held-out windows and ten billion positions, one inspection in about
1,800 reports a copy that is none. Memory: 8 bytes for every document, about 70 bytes for every held-out window, and a few
megabytes.

Text is compared without regard to case and white space, in bytes; shards are compared in tokens.
"""

from __future__ import annotations

import functools
import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

TOKENS = 64  # of a window, in token shards
BYTES = 200  # of a window, in text: what 64 tokens of a small vocabulary hold
SHARE = 0.001  # of held-out documents or windows in the training text; more is refused unless asked for
STRETCH = 1 << 18  # positions looked at in one go
BASE = 0x9E3779B97F4A7C15


def overlap(train: Iterable[np.ndarray], held_out: Mapping[str, Iterable[np.ndarray]], window: int) -> dict[str, Any]:
    """Look for held-out documents and windows in the training documents.

    Args:
        train: documents, uint8 or uint16; read once.
        held_out: split -> documents of the same kind.
        window: elements of a window.

    Returns:
        window; train: {documents, duplicates}; held_out: {documents, duplicates} over all splits together; splits: for
        each {documents, documents_in_train, windows, windows_in_train, first}, ``first`` being the number of the first
        document that is in the training text wholly or in part, or None.
    """
    digests: dict[str, array[int]] = {}
    hashes: dict[str, list[np.ndarray]] = {}
    for split, documents in held_out.items():
        digests[split], hashes[split] = array("Q"), []
        for document in documents:
            digests[split].append(_digest(document))
            hashes[split].append(rolling(document, window)[::window].copy())  # a view would keep all of them
    wanted = np.unique(np.concatenate([_joined(parts) for parts in hashes.values()]))
    seen, table = np.zeros(len(wanted), dtype=bool), _Table(wanted)
    trained = array("Q")
    for stretch in _stretches(_noted(train, trained), window):
        found = table.likely(rolling(stretch, window))
        at = np.minimum(np.searchsorted(wanted, found), len(wanted) - 1)
        seen[at[wanted[at] == found]] = True
    known, copied = np.unique(np.frombuffer(trained, np.uint64)), wanted[seen]
    everything = np.concatenate([np.frombuffer(d, np.uint64) for d in digests.values()])
    return {
        "window": window,
        "train": {"documents": len(trained), "duplicates": len(trained) - len(known)},
        "held_out": {"documents": len(everything), "duplicates": len(everything) - len(np.unique(everything))},
        "splits": {split: _split(digests[split], hashes[split], known, copied) for split in digests},
    }


def worst(found: dict[str, Any]) -> tuple[float, str]:
    """The largest share of a split's documents or windows that are also in the training text, and that split."""
    shares = [
        (counts[f"{what}_in_train"] / max(1, counts[what]), split)
        for split, counts in found["splits"].items()
        for what in ("documents", "windows")
    ]
    return max(shares)


def share_in_words(found: dict[str, Any], split: str) -> str:
    """A split's numbers in words."""
    counts = found["splits"][split]
    parts = [
        f"{counts[f'{what}_in_train']:,} of {counts[what]:,} {what} ({counts[f'{what}_in_train'] / max(1, counts[what]):.2%})"
        for what in ("documents", "windows")
    ]
    return " and ".join(parts)


def text_array(text: str) -> np.ndarray:
    """A document's UTF-8 bytes without case and with single spaces: (n,) uint8."""
    return np.frombuffer(" ".join(text.casefold().split()).encode(errors="replace"), dtype=np.uint8)


def rolling(values: np.ndarray, window: int) -> np.ndarray:
    """Hash of the window that begins at each position: (n,) uint8 or uint16 -> (n - window + 1,) uint64.

    The polynomial Σ r(v_j)·BASE^j mod 2^64, put together from windows of 1, 2, 4 … elements.
    """
    if len(values) < window:
        return np.zeros(0, dtype=np.uint64)
    part, whole, size, reached = _random()[values], None, 1, 0
    while True:
        if window & size:
            count = len(values) - reached - size + 1
            whole = part if whole is None else whole[:count] + _power(reached) * part[reached : reached + count]
            reached += size
        if reached == window:
            assert whole is not None
            return whole[: len(values) - window + 1]
        count = len(part) - size
        part = part[:count] + _power(size) * part[size : size + count]
        size *= 2


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(BASE, exponent, 1 << 64))


@functools.cache
def _random() -> np.ndarray:
    """A fixed random number for each value (splitmix64): (65536,) uint64."""
    x = np.arange(1, 65_537, dtype=np.uint64) * np.uint64(BASE)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class _Table:
    """A quick test that most hashes are not among those searched for."""

    def __init__(self, wanted: np.ndarray) -> None:
        bits = max(12, min(26, len(wanted).bit_length() + 6))
        self.shift = np.uint64(64 - bits)
        self.marked = np.zeros(1 << bits, dtype=bool)
        self.marked[wanted >> self.shift] = True
        self.empty = not len(wanted)

    def likely(self, hashes: np.ndarray) -> np.ndarray:
        return hashes[:0] if self.empty else hashes[self.marked[hashes >> self.shift]]


def _digest(document: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(document.tobytes(), digest_size=8).digest(), "little")


def _noted(documents: Iterable[np.ndarray], digests: array[int]) -> Iterator[np.ndarray]:
    for document in documents:
        if len(document):  # an empty document is no copy of another empty one
            digests.append(_digest(document))
            yield document


def _stretches(documents: Iterable[np.ndarray], window: int) -> Iterator[np.ndarray]:
    """Documents joined into arrays of about `STRETCH` elements, so that many short ones cost no more than a long one."""
    kept, size = list[np.ndarray](), 0
    for document in documents:
        # A value that no UTF-8 text and no vocabulary of less than 65,536 ids holds parts neighbours.
        kept += [document, np.full(1, np.iinfo(document.dtype).max, dtype=document.dtype)]
        size += len(document) + 1
        if size >= STRETCH:
            yield from _cut(np.concatenate(kept), window)
            kept, size = [], 0
    if kept:
        yield from _cut(np.concatenate(kept), window)


def _cut(values: np.ndarray, window: int) -> Iterator[np.ndarray]:
    for start in range(0, len(values), STRETCH):
        yield values[start : start + STRETCH + window - 1]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)


def _split(digests: array[int], hashes: list[np.ndarray], known: np.ndarray, copied: np.ndarray) -> dict[str, Any]:
    whole = np.isin(np.frombuffer(digests, np.uint64), known)
    copies = np.array([int(np.isin(h, copied).sum()) for h in hashes], dtype=np.int64)
    hit = np.flatnonzero(whole | (copies > 0))
    return {
        "documents": len(hashes),
        "documents_in_train": int(whole.sum()),
        "windows": sum(map(len, hashes)),
        "windows_in_train": int(copies.sum()),
        "first": int(hit[0]) if len(hit) else None,
    }
