"""Training data from the command line: what a corpus holds, the official shards, and shards of one's own."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from golflab.model.data.corpus import SHARD, SIDECAR, ShardCorpus, counted, load_corpus
from golflab.model.data.inspection import check_bytes, overlap_of, refuse_overlap
from golflab.model.data.official import check_sidecars, incomplete
from golflab.model.data.overlap import SHARE, worst
from golflab.model.data.prepare import encode_to
from golflab.model.data.rewriting import Rewriting
from golflab.model.data.shards import read_shard, split_documents, write_shard
from golflab.model.data.tokenizer import Tokenizer, beside, tokenizer_for, tokenizer_of
from golflab.model.shape import Shape
from golflab.model.system.files import write_atomic
from golflab.model.technique import parse
from golflab.model.techniques.data.caseops import MARKERS, Caseops


def describe(name: str) -> dict[str, Any]:
    """What a corpus holds, per split, and how much of its held-out text stands in its training text.

    Raises:
        ValueError: it cannot be used.
    """
    corpus = load_corpus(name)
    body: dict[str, Any] = {"corpus": name, "fingerprint": corpus.fingerprint}
    if isinstance(corpus, ShardCorpus):
        parts = {"train": corpus.train, "held_out": corpus.held_out}
        counts = {
            split: {"shards": len(paths), "tokens": sum(len(read_shard(p)) for p in paths)} for split, paths in parts.items()
        }
        body |= {"kind": "shards", "splits": counts}
        tokenizer = beside(corpus)
        notes = incomplete(corpus, tokenizer)
        if (sizes := counted(corpus)) is not None:
            counts["held_out"]["bytes"] = int(sizes.sum())
            notes.append(f"{len(corpus.sidecars)} byte sidecars lie beside the validation shards: counts, not text.")
        if tokenizer is not None:
            notes += _of_text(corpus, tokenizer)
        return body | _overlapping(overlap_of(corpus, tokenizer), notes)
    splits = {}
    for split in ("train", "dev", "test"):
        documents = size = 0
        for text in getattr(corpus, split):
            documents, size = documents + 1, size + len(text.encode())
        splits[split] = {"documents": documents, "bytes": size}
    return body | {"kind": "text", "splits": splits} | _overlapping(overlap_of(corpus), [])


def noticed(tokenizer: Tokenizer) -> Rewriting | None:
    """How the text of a tokenizer was rewritten, by its pieces: `caseops` where it has a piece for each marker."""
    model = tokenizer.processor
    marked = all(model.id_to_piece(model.piece_to_id(marker)) == marker for marker in MARKERS)
    return Caseops().build(Shape()) if marked else None


def _of_text(corpus: ShardCorpus, tokenizer: Tokenizer) -> list[str]:
    """Whether shards hold rewritten text, and whether their sidecars are right."""
    text = noticed(tokenizer)
    notes = [] if text is None else ["The tokenizer has CaseOps' markers: runs need --with caseops."]
    try:
        return notes + check_sidecars(corpus, tokenizer_of(tokenizer.proto, text))
    except ValueError as error:
        return [*notes, f"Runs are refused: {error}"]


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
CASEOPS_HUB = "romeerp/parameter-golf-caseops-v1"  # the one that the records with CaseOps name (PR #1729, #1855)


def get(
    folder: Path,
    vocabulary: int = 1024,
    shards: int = 1,
    hub: str = "",
    endpoint: str | None = None,
    *,
    caseops: bool = False,
) -> list[Path]:
    """Download official token shards and their tokenizer into a folder that ``--corpus`` takes; what is there is kept.

    Args:
        folder: where they go.
        vocabulary: token ids of the tokenizer: 1024, 4096, …
        shards: training shards, 100 million tokens (200 MB) each; all validation shards come along.
        hub: data set on the Hugging Face hub, in which files are found by their names, wherever they lie; `HUB` or
            `CASEOPS_HUB` by default.
        endpoint: of another hub.
        caseops: whether the shards of text that CaseOps rewrote are wanted, with their byte sidecars.

    Returns:
        The tokenizer, the training shards and the validation shards, then the sidecars if there are any.

    Raises:
        ValueError: no huggingface_hub, no connection, or not what was asked for; the message says what there is.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise ValueError("data get needs huggingface_hub: pip install 'golflab[hub]'.") from None
    if shards < 1:
        raise ValueError(f"data get: {shards} training shards; at least 1 is needed.")
    api, hub = HfApi(endpoint=endpoint), hub or (CASEOPS_HUB if caseops else HUB)
    try:
        # Of several generations of the data set, the one that comes first by name in each place.
        found = {
            Path(path).name: path
            for path in sorted(api.list_repo_files(hub, repo_type="dataset"), reverse=True)
            if _belongs(path, vocabulary, caseops)
        }
        wanted = _wanted(sorted(found), vocabulary, shards, hub, caseops)
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


def _belongs(path: str, vocabulary: int, caseops: bool) -> bool:
    """Whether a file of the hub is a shard or the tokenizer of this vocabulary and text."""
    if not caseops:
        return f"_sp{vocabulary}/" in path or path.endswith(f"fineweb_{vocabulary}_bpe.model")
    folder, _, name = path.rpartition("/")
    named = name if name.endswith(".model") else folder.rpartition("/")[2]
    return "caseops" in named and (f"_sp{vocabulary}_" in named or f"_{vocabulary}_bpe" in named)


def _wanted(names: list[str], vocabulary: int, shards: int, hub: str, caseops: bool) -> list[str]:
    """The tokenizer, the first training shards, all validation shards."""
    model = next((n for n in names if n.endswith(".model")), "")
    train = [n for n in names if (match := SHARD.fullmatch(n)) and match[1] == "train"]
    held_out = [n for n in names if n.startswith("fineweb_val_")]  # byte sidecars come along, where there are any
    if not model or not train or not held_out:
        advice = 8192 if caseops else 1024
        raise ValueError(f"data get: {hub} holds no shards and tokenizer of {vocabulary} ids; try --vocabulary {advice}.")
    if caseops and not any(SIDECAR.fullmatch(n) for n in held_out):
        raise ValueError(
            f"data get: {hub} holds no byte sidecars of {vocabulary} ids (fineweb_val_bytes_*.bin), without which rewritten "
            "text cannot be scored by its original bytes; name another data set with --hub."
        )
    if shards > len(train):
        raise ValueError(f"data get: {hub} holds {len(train)} training shards of {vocabulary} ids, not {shards}.")
    return [model, *train[:shards], *held_out]


def build(name: str, vocabulary: int, folder: Path, allow_overlap: bool = False, text: str = "") -> list[Path]:
    """Train a tokenizer on a text corpus and write its shards, named as the challenge names them.

    Args:
        name: corpus.
        vocabulary: token ids.
        folder: where everything goes.
        allow_overlap: go on although the training text holds held-out text.
        text: technique of the slot ``text`` that rewrites it first; then byte sidecars are written, too.

    Returns:
        The tokenizer, the training shard and the validation shard (dev documents, then test documents), and its sidecar.

    Raises:
        ValueError: the corpus is unusable or consists of shards already, or its held-out text stands in its training text.
    """
    corpus, rewriting = load_corpus(name), _rewriting(text)
    if isinstance(corpus, ShardCorpus):
        raise ValueError(f"corpus {name!r} consists of token shards already; give text.")
    refuse_overlap(name, overlap_of(corpus), allow_overlap)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_for(corpus, vocabulary, folder / "cache", text=rewriting)
    model = folder / f"fineweb_{vocabulary}_bpe.model"
    write_atomic(model, tokenizer.proto)
    paths = [folder / f"fineweb_{kind}_000000.bin" for kind in ("train", "val", "val_bytes")]
    encode_to(paths[1], itertools.chain(corpus.dev, corpus.test), tokenizer, paths[1].name)
    tokens = read_shard(paths[1])
    documents = split_documents(tokens)
    held = sum(1 for _ in corpus.dev)
    check_bytes(corpus, tokenizer, "dev", documents[:held])
    check_bytes(corpus, tokenizer, "test", documents[held:])
    encode_to(paths[0], corpus.train, tokenizer, paths[0].name)
    if rewriting is None:
        return [model, *paths[:2]]
    write_shard(paths[2], [np.append(0, tokenizer.token_bytes(tokens[1:], tokens[:-1]))])
    return [model, *paths]


def _rewriting(text: str) -> Rewriting | None:
    """How a technique of the slot ``text`` rewrites, or None where none is named."""
    if not text:
        return None
    technique = parse(text)
    if technique.slot != "text":
        raise ValueError(f"data build: {technique.name} fills the slot {technique.slot!r}; --text takes caseops or verbatim.")
    rewriting: Rewriting = technique.build(Shape())
    if rewriting.fused:
        raise ValueError(
            "data build: shards hold markers by themselves; they are fused when a run with fusion=true reads them."
        )
    return rewriting
