"""Training data from the command line: what a corpus holds, the official shards, and shards of one's own."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

from golflab.model.data.corpus import SHARD, ShardCorpus, load_corpus
from golflab.model.data.inspection import check_bytes, overlap_of, refuse_overlap
from golflab.model.data.official import incomplete
from golflab.model.data.overlap import SHARE, worst
from golflab.model.data.prepare import encode_to
from golflab.model.data.shards import read_shard, split_documents
from golflab.model.data.tokenizer import beside, tokenizer_for
from golflab.model.system.files import write_atomic


def describe(name: str) -> dict[str, Any]:
    """What a corpus holds, per split, and how much of its held-out text stands in its training text.

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
        body |= {"kind": "shards", "splits": counted}
        tokenizer = beside(corpus)
        notes = incomplete(corpus, tokenizer)
        if corpus.sidecars:
            notes.append(f"{len(corpus.sidecars)} byte sidecars lie beside the validation shards: counts, not text.")
        return body | _overlapping(overlap_of(corpus, tokenizer), notes)
    splits = {}
    for split in ("train", "dev", "test"):
        documents = size = 0
        for text in getattr(corpus, split):
            documents, size = documents + 1, size + len(text.encode())
        splits[split] = {"documents": documents, "bytes": size}
    return body | {"kind": "text", "splits": splits} | _overlapping(overlap_of(corpus), [])


def _overlapping(found: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    share, split = worst(found)
    if share > SHARE:
        notes.append(f"{split} overlaps the training text by more than {SHARE:.1%}: runs need --allow-overlap.")
    if found["train"]["duplicates"]:
        notes.append(f"{found['train']['duplicates']:,} training documents are copies of others.")
    if found["held_out"]["duplicates"]:
        notes.append(f"{found['held_out']['duplicates']:,} held-out documents are copies of others.")
    return {"overlap": found, "notes": notes}


HUB = "willdepueoai/parameter-golf"  # the data set that the challenge's own repository downloads


def get(folder: Path, vocabulary: int = 1024, shards: int = 1, hub: str = HUB, endpoint: str | None = None) -> list[Path]:
    """Download official token shards and their tokenizer into a folder that ``--corpus`` takes; what is there is kept.

    Args:
        folder: where they go.
        vocabulary: token ids of the tokenizer: 1024, 4096, …
        shards: training shards, 100 million tokens (200 MB) each; all validation shards come along.
        hub: data set on the Hugging Face hub, in which files are found by their names, wherever they lie.
        endpoint: of another hub.

    Returns:
        The tokenizer, the training shards and the validation shards.

    Raises:
        ValueError: no huggingface_hub, no connection, or not what was asked for; the message says what there is.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise ValueError("data get needs huggingface_hub: pip install 'golflab[hub]'.") from None
    if shards < 1:
        raise ValueError(f"data get: {shards} training shards; at least 1 is needed.")
    api = HfApi(endpoint=endpoint)
    try:
        # Of several generations of the data set, the one that comes first by name in each place.
        found = {
            Path(path).name: path
            for path in sorted(api.list_repo_files(hub, repo_type="dataset"), reverse=True)
            if f"_sp{vocabulary}/" in path or path.endswith(f"fineweb_{vocabulary}_bpe.model")
        }
        wanted = _wanted(sorted(found), vocabulary, shards, hub)
        folder.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            if not (folder / name).exists():
                here = Path(api.hf_hub_download(hub, found[name], repo_type="dataset", local_dir=folder / "download"))
                if name.endswith(".bin"):
                    _checked(here)
                os.replace(here, folder / name)
    except OSError as error:  # what the hub's client raises, and requests below it
        raise ValueError(f"data get: {hub} could not be read: {error}") from None
    shutil.rmtree(folder / "download", ignore_errors=True)
    return [folder / name for name in wanted]


def _checked(path: Path) -> None:
    """Raise unless a file is a whole shard; the client would keep one that is not."""
    try:
        read_shard(path)
    except ValueError:
        path.unlink()
        raise


def _wanted(names: list[str], vocabulary: int, shards: int, hub: str) -> list[str]:
    """The tokenizer, the first training shards, all validation shards."""
    model = f"fineweb_{vocabulary}_bpe.model"
    train = [n for n in names if (match := SHARD.fullmatch(n)) and match[1] == "train"]
    held_out = [n for n in names if n.startswith("fineweb_val_")]  # byte sidecars come along, where there are any
    if model not in names or not train or not held_out:
        raise ValueError(f"data get: {hub} holds no shards and tokenizer of {vocabulary} ids; try --vocabulary 1024.")
    if shards > len(train):
        raise ValueError(f"data get: {hub} holds {len(train)} training shards of {vocabulary} ids, not {shards}.")
    return [model, *train[:shards], *held_out]


def build(name: str, vocabulary: int, folder: Path, allow_overlap: bool = False) -> list[Path]:
    """Train a tokenizer on a text corpus and write its shards, named as the challenge names them.

    Returns:
        The tokenizer, the training shard and the validation shard (dev documents, then test documents).

    Raises:
        ValueError: the corpus is unusable or consists of shards already, or its held-out text stands in its training text.
    """
    corpus = load_corpus(name)
    if isinstance(corpus, ShardCorpus):
        raise ValueError(f"corpus {name!r} consists of token shards already; give text.")
    refuse_overlap(name, overlap_of(corpus), allow_overlap)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_for(corpus, vocabulary, folder / "cache")
    model = folder / f"fineweb_{vocabulary}_bpe.model"
    write_atomic(model, tokenizer.proto)
    paths = [folder / "fineweb_train_000000.bin", folder / "fineweb_val_000000.bin"]
    encode_to(paths[1], itertools.chain(corpus.dev, corpus.test), tokenizer, paths[1].name)
    documents = split_documents(read_shard(paths[1]))
    held = sum(1 for _ in corpus.dev)
    check_bytes(corpus, tokenizer, "dev", documents[:held])
    check_bytes(corpus, tokenizer, "test", documents[held:])
    encode_to(paths[0], corpus.train, tokenizer, paths[0].name)
    return [model, *paths]
