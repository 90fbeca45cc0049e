"""Training data from the command line: what a corpus holds, and shards of one's own."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from model.corpus import ShardCorpus, load_corpus
from model.progress import Progress
from model.record import write_atomic
from model.shards import read_shard, write_shard
from model.tokens import tokenizer_for


def describe(name: str) -> dict[str, Any]:
    """What a corpus holds, per split.

    Raises:
        ValueError: it cannot be used.
    """
    corpus = load_corpus(name)
    body: dict[str, Any] = {"corpus": name, "fingerprint": corpus.fingerprint}
    if isinstance(corpus, ShardCorpus):
        parts = {"train": corpus.train, "held_out": corpus.held_out}
        counted = {
            split: {"shards": len(paths), "tokens": sum(len(read_shard(p)) for p in paths)} for split, paths in parts.items()
        }
        return body | {"kind": "shards", "splits": counted}
    splits = {}
    for split in ("train", "dev", "test"):
        documents = size = 0
        for text in getattr(corpus, split):
            documents, size = documents + 1, size + len(text.encode())
        splits[split] = {"documents": documents, "bytes": size}
    return body | {"kind": "text", "splits": splits}


def build(name: str, vocabulary: int, folder: Path) -> list[Path]:
    """Train a tokenizer on a text corpus and write its shards, named as the challenge names them.

    Returns:
        The tokenizer, the training shard and the validation shard (dev documents, then test documents).

    Raises:
        ValueError: the corpus is unusable or consists of shards already.
    """
    corpus = load_corpus(name)
    if isinstance(corpus, ShardCorpus):
        raise ValueError(f"corpus {name!r} consists of token shards already; give text.")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_for(corpus, vocabulary, folder / "cache")
    model = folder / f"fineweb_{vocabulary}_bpe.model"
    write_atomic(model, tokenizer.proto)
    paths = [folder / "fineweb_train_000000.bin", folder / "fineweb_val_000000.bin"]
    for path, texts in zip(paths, (corpus.train, itertools.chain(corpus.dev, corpus.test)), strict=True):
        with Progress(path.name, None) as bar:
            done = 0
            pieces = []
            for text in texts:
                pieces.append(tokenizer.encode(text))
                done += len(text)
                bar.update(done, f"{done / 1e6:.1f} M characters")
        write_shard(path, pieces)
    return [model, *paths]
