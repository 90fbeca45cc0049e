"""Files that come with official shards: byte sidecars, and a manifest of the held-out part."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from golflab.model.data.corpus import ShardCorpus
from golflab.model.data.shards import BOS, exchanged, read_shard
from golflab.model.data.tokenizer import Tokenizer

# Tokenizer -> documents and tokens of the official validation set made with it; from the challenge's manifest.json.
OFFICIAL = {"4f5e8adb109c66b4": (50_000, 62_021_846)}


def check_sidecars(corpus: ShardCorpus, tokenizer: Tokenizer) -> None:
    """Compare byte sidecars with the bytes of the tokenizer's pieces.

    Raises:
        ValueError: they differ, as where text was rewritten before it became tokens, or do not lie beside their shards.
    """
    for path in corpus.sidecars:
        shard = path.with_name(path.name.replace("_bytes_", "_"))
        ids, told = (np.asarray(read_shard(p)) for p in (shard, path))
        if len(ids) != len(told):
            raise ValueError(
                f"{path} counts the bytes of {len(told):,} tokens, {shard.name} holds {len(ids):,}; get both again."
            )
        ids = exchanged(ids, tokenizer.own_bos)
        own = tokenizer.token_bytes(ids[1:], ids[:-1])
        if len(wrong := np.flatnonzero(own != told[1:])):
            raise ValueError(
                f"{path}: {int(told.sum()):,} bytes, by the tokenizer's pieces {int(own.sum()):,}; they differ first at token "
                f"{wrong[0] + 1}. The text was rewritten before it became tokens (CaseOps); golflab cannot score that. Use "
                "shards of the plain text."
            )


def incomplete(corpus: ShardCorpus, tokenizer: Tokenizer | None) -> list[str]:
    """A note where the held-out part is not what the official manifest says."""
    wanted = OFFICIAL.get(tokenizer.fingerprint) if tokenizer is not None else None
    wanted = _manifest(corpus.held_out[0].parent.resolve()) or wanted
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
            for told in json.loads(path.read_text())["datasets"]:
                if Path(told["path"]).name == folder.name or path.parent == folder:
                    return int(told["stats"]["docs_val"]), int(told["stats"]["tokens_val"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
