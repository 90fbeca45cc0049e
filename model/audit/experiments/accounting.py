"""Condition 6: the bytes that nats are divided by are the UTF-8 bytes of the text, document by document.

For a tokenizer alone, `judge_tables` counts the held-out text of a corpus by given byte tables and compares.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

UNSPELLED = "\u2047"  # what SentencePiece decodes an unknown piece to
FLAGS = {"leads": ("leads", "has_leading_space", "leading_space"), "boundary": ("boundary", "is_boundary_token", "is_boundary")}
BASE = ("bytes", "base_bytes", "token_bytes")


def accounting(
    evaluator: Any,
    documents: Sequence[np.ndarray],
    decode: Callable[[np.ndarray], str] | None,
    originals: Sequence[str] | None = None,
) -> tuple[str, str]:
    """Count the bytes of every document twice: as the evaluator does, and as UTF-8 of the decoded text.

    Args:
        evaluator: may have ``count_bytes``.
        documents: all of the text, however little of it the other experiments use.
        decode: ids -> text, trusted.
        originals: the text that the tokens were made from, if it is known.
    """
    count = getattr(evaluator, "count_bytes", None)
    if count is None or (decode is None and originals is None):
        missing = "the evaluator's count_bytes()" if count is None else "a trusted decode()"
        return "unchecked", f"counting bytes twice needs {missing}"
    text = np.concatenate(documents)
    counted = np.asarray(count(text.copy()))
    if counted.shape != (len(text) - 1,):
        return "breach", f"count_bytes() of {len(text):,} tokens gave shape {counted.shape}, not one number per target"
    counted = np.append(0, counted)  # the first BOS is no target
    return compared(counted, documents, decode, originals)


def compared(
    counted: np.ndarray,
    documents: Sequence[np.ndarray],
    decode: Callable[[np.ndarray], str] | None,
    originals: Sequence[str] | None,
) -> tuple[str, str]:
    """Compare counts by token (N,) with the text, document by document; name the first that differs."""
    total, begin, different, said, lost, unspelled = 0, 0, 0, "", 0, 0
    for number, document in enumerate(documents):
        mine = float(counted[begin : begin + len(document)].sum())
        decoded = decode(document) if decode is not None else None
        original = len(originals[number].encode()) if originals is not None else None
        real = original if decoded is None else len(decoded.encode(errors="replace"))
        assert real is not None
        if mine != real:
            different += 1
            said = said or f"document {number} was counted as {mine:,.0f} bytes, its text has {real:,}"
        if original is not None:
            lost += original - real
        if decoded is not None:
            unspelled += decoded.count(UNSPELLED)
        total, begin = total + real, begin + len(document)
    if different:
        return (
            "breach",
            f"{said}; {different:,} of {len(documents):,} documents differ, {counted.sum():,.0f} bytes for {total:,}",
        )
    evidence = f"all {total:,} bytes of {len(documents):,} documents ({begin:,} tokens) are those of the decoded text"
    if unspelled:
        evidence += f"; {unspelled:,} times the tokenizer had no piece for the text, which makes the score too good"
    if lost:
        evidence += f"; the original text has {lost:+,} bytes"
    return "pass", evidence


# ---------------------------------------------------------------------- a tokenizer and byte tables


@dataclass(frozen=True)
class Tables:
    """Byte tables of a vocabulary, or byte counts token by token.

    Attributes:
        bytes: (V,) UTF-8 length of each token.
        leads: (V,) whether a token begins with a space that is counted on top of it; none if that is in ``bytes``.
        boundary: (V,) tokens behind which that space is not counted.
        by_token: whether ``bytes`` counts every token of the held-out text instead (a sidecar).
    """

    bytes: np.ndarray
    leads: np.ndarray
    boundary: np.ndarray
    by_token: bool = False

    def count(self, tokens: np.ndarray) -> np.ndarray:
        """Bytes of every token of a text (N,) ids -> (N,) int64; the first stands for none, as it is no target."""
        if self.by_token:
            if len(self.bytes) != len(tokens):
                raise ValueError(f"audit: the table counts {len(self.bytes):,} tokens, the held-out text has {len(tokens):,}.")
            return self.bytes
        if tokens.max(initial=0) >= len(self.bytes):
            raise ValueError(f"audit: the tables have {len(self.bytes):,} rows, the text uses token {int(tokens.max())}.")
        spaces = self.leads[tokens[1:]] & ~self.boundary[tokens[:-1]]
        return np.append(0, self.bytes[tokens[1:]] + spaces)


def read_tables(path: Path) -> Tables:
    """Read byte tables: one array (``.npy``, ``.json``, raw uint16 ``.bin``), three (``.npz``, ``.json``), or a sidecar shard.

    Of three, one is called ``bytes`` or ``base_bytes``, one ``leads`` or ``has_leading_space``, and one ``boundary`` or
    ``is_boundary_token``.

    Raises:
        ValueError: no such file, another kind of file, or not what tables look like.
    """
    try:
        if path.suffix == ".bin":
            return _from_bin(path)
        if path.suffix == ".json":
            body = json.loads(path.read_text())
            found = body if isinstance(body, dict) else {"bytes": body}
        elif path.suffix in (".npy", ".npz"):
            loaded = np.load(path, allow_pickle=False)
            found = {name: loaded[name] for name in loaded.files} if path.suffix == ".npz" else {"bytes": loaded}
        else:
            raise ValueError("it ends in none of .npy, .npz, .json and .bin")
        named = {key.removesuffix("_lut"): np.asarray(value) for key, value in found.items()}
        sizes = next((named[key] for key in BASE if key in named), None)
        if sizes is None or sizes.ndim != 1 or not np.issubdtype(sizes.dtype, np.number):
            raise ValueError(f"it holds {', '.join(found)}; one list of numbers must be called bytes")
        flags = {flag: next((named[key].astype(bool) for key in keys if key in named), None) for flag, keys in FLAGS.items()}
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"byte tables {path}: {error}.") from None
    none = np.zeros(len(sizes), dtype=bool)
    leads, boundary = (none if flags[flag] is None else flags[flag] for flag in FLAGS)
    assert leads is not None
    assert boundary is not None
    if not len(leads) == len(boundary) == len(sizes):
        raise ValueError(
            f"byte tables {path}: lists of {len(sizes)}, {len(leads)} and {len(boundary)}; they must be equally long."
        )
    return Tables(sizes.astype(np.int64), leads, boundary)


def _from_bin(path: Path) -> Tables:
    from golflab.model.data.shards import read_shard

    try:
        counts, by_token = np.asarray(read_shard(path)).astype(np.int64), True
    except ValueError:
        counts, by_token = np.fromfile(path, dtype="<u2").astype(np.int64), False
    none = np.zeros(len(counts), dtype=bool)
    return Tables(counts, none, none, by_token)


def judge_tables(
    tables: Tables, documents: Sequence[np.ndarray], decode: Callable[[np.ndarray], str], originals: Sequence[str] | None
) -> tuple[str, str]:
    """Condition 6 of byte tables over a whole held-out text; the first document that differs is named."""
    text = np.concatenate(documents).astype(np.int64)
    return compared(tables.count(text), documents, decode, originals)
