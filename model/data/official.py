"""Files that come with official shards: byte sidecars, and a manifest of the held-out part."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from golflab.model.data.corpus import ShardCorpus, counted
from golflab.model.data.rewriting import RewrittenTokenizer
from golflab.model.data.shards import BOS, exchanged, read_shard, split_documents
from golflab.model.data.tokenizer import Tokenizer

# Tokenizer -> documents and tokens of the official validation set made with it; from the challenge's manifest.json.
OFFICIAL = {"4f5e8adb109c66b4": (50_000, 62_021_846)}
CASEOPS = "caseops_v1"  # in the names of the official CaseOps tokenizer and folder (PR #1729), which have no such manifest
OFFICIAL_CASEOPS = {8192: (50_000, 47_853_344)}  # vocabulary -> documents and tokens, BOS included
MOST_FOLDED = 0.01  # of the text's bytes: what normalising may change. Wrong counts that were published differ by 4 % and more.


def check_sidecars(corpus: ShardCorpus, tokenizer: Tokenizer) -> list[str]:
    """Compare byte sidecars with the bytes of the tokenizer's pieces.

    Of plain text both must say the same, token by token. Of rewritten text the sidecars are believed, because only they know
    what was normalised; but markers and BOS must stand for no bytes, and in all they must be near the decoded text's.

    Returns:
        Notes for the record.

    Raises:
        ValueError: they differ, count markers, do not lie beside their shards, or are missing where they are needed.
    """
    counts = counted(corpus)
    if isinstance(tokenizer, RewrittenTokenizer):
        return _check_rewritten(corpus, tokenizer, counts)
    if counts is not None:
        ids = exchanged(np.concatenate([read_shard(path) for path in corpus.held_out]), tokenizer.own_bos)
        own = tokenizer.token_bytes(ids[1:], ids[:-1])
        if len(wrong := np.flatnonzero(own != counts[1:])):
            raise ValueError(
                f"{_where(corpus, int(wrong[0]) + 1)}: {int(counts.sum()):,} bytes, its pieces say {int(own.sum()):,}. "
                f"They differ first at token {wrong[0] + 1}. The text was rewritten before it became tokens; if by CaseOps, "
                "switch it on: --with caseops."
            )
    return []


def _check_rewritten(corpus: ShardCorpus, tokenizer: RewrittenTokenizer, counts: np.ndarray | None) -> list[str]:
    """Check the sidecars of rewritten text."""
    if counts is None:
        if tokenizer.lossless:
            return []  # the pieces say it
        raise ValueError(
            f"corpus {corpus.name!r}: its tokenizer normalises text, so only byte sidecars know how many bytes of the original "
            "text a token stands for, and there are none (fineweb_val_bytes_*.bin). Get them; `golflab data get` does."
        )
    plain = dataclasses.replace(tokenizer.rewriting, fused=0).tokenizer(tokenizer.proto)  # as the shards are
    ids = exchanged(np.concatenate([read_shard(path) for path in corpus.held_out]), plain.own_bos)
    own = np.append(0, plain.token_bytes(ids[1:], ids[:-1]))
    silent = (ids == BOS) | (np.isin(ids, plain.markers) & (own == 0))
    if len(wrong := np.flatnonzero(silent & (counts > 0))):
        what = "BOS" if ids[wrong[0]] == BOS else "a marker"
        raise ValueError(
            f"{_where(corpus, int(wrong[0]))}: token {wrong[0]} is {what}, which stands for no bytes, and counts "
            f"{counts[wrong[0]]}. So do {len(wrong):,} of {len(counts):,} tokens; bits per byte would be too low. "
            "Get sidecars of the original text."
        )
    documents = split_documents(ids)
    begins = np.cumsum([0, *(len(d) for d in documents[:-1])])
    sums, pieces = np.add.reduceat(counts.astype(np.int64), begins), np.add.reduceat(own, begins)
    total, mine = int(sums.sum()), int(pieces.sum())
    whole = plain.lossless and len(sums) > 1 and (sums != pieces)[:-1].any()  # the last may be cut off
    if whole or abs(total - mine) > MOST_FOLDED * mine:
        first = int(np.flatnonzero(sums != pieces)[0])
        raise ValueError(
            f"corpus {corpus.name!r}: the byte sidecars count {total:,} bytes, the decoded text has {mine:,}; they differ "
            f"first in document {first}, {sums[first]:,} for {pieces[first]:,}. Get sidecars and shards again, of one export."
        )
    if total == mine:
        return []
    return [f"The score is by the {total:,} bytes of the original text that the sidecars count; its tokens decode to {mine:,}."]


def _where(corpus: ShardCorpus, token: int) -> Path:
    """The sidecar in which a held-out token is counted."""
    ends = np.cumsum([len(read_shard(path)) for path in corpus.sidecars])
    return corpus.sidecars[int(np.searchsorted(ends, token, side="right"))]


def incomplete(corpus: ShardCorpus, tokenizer: Tokenizer | None) -> list[str]:
    """A note where the held-out part is not what the official manifest says."""
    wanted = OFFICIAL.get(tokenizer.fingerprint) if tokenizer is not None else None
    folder = corpus.held_out[0].parent.resolve()
    if tokenizer is not None and (CASEOPS in folder.name or any(CASEOPS in path.name for path in folder.glob("*.model"))):
        wanted = OFFICIAL_CASEOPS.get(tokenizer.vocabulary, wanted)
    wanted = _manifest(folder) or wanted
    if wanted is None:
        return []
    parts = [read_shard(path) for path in corpus.held_out]
    bos = BOS if tokenizer is None else tokenizer.own_bos
    found = sum(int((np.asarray(part) == bos).sum()) for part in parts), sum(map(len, parts))
    if found == wanted:
        return []
    what = "incomplete" if found < wanted else "not the official one"
    return [
        f"The held-out part is {what}: {found[0]:,} documents and {found[1]:,} tokens, where the manifest says {wanted[0]:,} "
        f"and {wanted[1]:,}. A score on it does not compare with published ones."
    ]


def _manifest(folder: Path) -> tuple[int, int] | None:
    """Validation documents and tokens that a manifest.json beside the shards, or two folders up, gives for this folder."""
    for path in (folder / "manifest.json", folder.parent.parent / "manifest.json"):
        try:
            for entry in json.loads(path.read_text())["datasets"]:
                if Path(entry["path"]).name == folder.name or path.parent == folder:
                    return int(entry["stats"]["docs_val"]), int(entry["stats"]["tokens_val"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
