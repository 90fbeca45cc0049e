"""Inspection: are the bytes of the held-out text counted correctly, and does the training text contain some of it?

It is done once for every corpus and tokenizer, when tokens are made, and kept beside them. Exported scripts do not do it.

What a byte is. Bits per byte are divided by the bytes of the decoded text, as the challenge does. That is the original text
apart from what the challenge's own normalisation changes: compatibility characters (NFKC), and white space. A tokenizer that
changes more gives a score that is too good, for example if it has no bytes for unknown pieces, or folds case, or deletes
characters. It is refused if the bytes lost or added are more than `CHANGED` of the text.
"""

from __future__ import annotations

import itertools
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from golflab.model.data.corpus import Corpus, ShardCorpus
from golflab.model.data.official import check_sidecars, incomplete
from golflab.model.data.overlap import BYTES, SHARE, TOKENS, overlap, share_in_words, text_array, worst
from golflab.model.data.shards import BOS, read_shard, split_documents
from golflab.model.data.tokenizer import SPACE, Tokenizer, check_ids
from golflab.model.system.files import write_atomic
from golflab.model.system.progress import Progress
from golflab.model.system.sources import code_hash

CHANGED = 0.001  # of the text's bytes that a tokenizer may lose or add
GROUP = 1 << 19  # tokens decoded at once
SAMPLE = 32  # documents of a shard that are encoded again
Documents = Sequence[np.ndarray]


def inspect(
    corpus: Corpus | ShardCorpus, tokenizer: Tokenizer, dev: Documents, test: Documents, path: Path, allow_overlap: bool
) -> dict[str, Any]:
    """Inspect a corpus and its held-out tokens, or read the result of an earlier inspection.

    Args:
        corpus: what the tokens were made from.
        tokenizer: what made them.
        dev: documents of dev, each beginning with BOS.
        test: documents of test.
        path: file for the result.
        allow_overlap: only note held-out text in the training text, instead of refusing it.

    Returns:
        bytes: for each split {documents, tokens, counted, original, changed}, in bytes (original and changed are None for
        shards, which have no original); overlap: see `golflab.model.data.overlap.overlap`; notes: sentences for the record.

    Raises:
        ValueError: bytes are counted wrongly, text is lost, shards do not fit their tokenizer, or there is overlap.
    """
    facts = _kept(path)
    if facts is None:
        held_out = {"dev": dev, "test": test}
        counts = {split: check_bytes(corpus, tokenizer, split, documents) for split, documents in held_out.items()}
        facts = {"code": code_hash([__name__]), "bytes": counts, "overlap": overlap_of(corpus, tokenizer), "notes": []}
        if isinstance(corpus, ShardCorpus):
            facts["notes"] += check_sidecars(corpus, tokenizer)
            check_round_trip(corpus, tokenizer, [*dev, *test])
            facts["notes"] += incomplete(corpus, tokenizer)
        write_atomic(path, json.dumps(facts).encode())
    facts["notes"] += refuse_overlap(corpus.name, facts["overlap"], allow_overlap)
    return facts


def _kept(path: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(path.read_text())
        return facts if facts["code"] == code_hash([__name__]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# ---------------------------------------------------------------------- bytes


def count(tokenizer: Tokenizer, documents: Documents) -> np.ndarray:
    """Bytes of each document as the metric counts them: (documents,) int64."""
    ids = np.concatenate(documents).astype(np.int64)
    begins = np.cumsum([0, *(len(d) for d in documents[:-1])])
    return np.add.reduceat(np.append(0, tokenizer.token_bytes(ids[1:], ids[:-1])), begins)


def check_bytes(corpus: Corpus | ShardCorpus, tokenizer: Tokenizer, split: str, documents: Documents) -> dict[str, Any]:
    """Compare the bytes counted with the decoded text, document by document, and that with the original where there is one.

    Raises:
        ValueError: they differ; the message names the first document, both numbers, and what to do.
    """
    originals = iter(getattr(corpus, split)) if isinstance(corpus, Corpus) else None
    kept = getattr(tokenizer, "lossless", False)  # of rewritten text; it tells a space from the character that stands for it
    counted, original, last = 0, 0, len(documents) - 1 if originals is None else None
    changes = _Changes()
    for first, group in _groups(documents):
        sizes, texts = count(tokenizer, group), tokenizer.decode_all(group)
        for number, (size, text, document) in enumerate(zip(sizes, texts, group, strict=True), first):
            true = len((text if kept else text.replace(SPACE, " ")).encode())  # a space spelled as three bytes is one
            if size != true and not (number == last and _cut_off(tokenizer, document)):
                raise ValueError(
                    f"corpus {corpus.name!r}, document {number} of {split} ({text[:40]!r} …): the tokenizer's pieces count "
                    f"{size:,} bytes, the text they decode to has {true:,}, so bits per byte would be wrong. Use a "
                    "SentencePiece model with the challenge's settings; tokenizer='auto' trains one."
                )
            counted += int(size)
            if originals is not None:
                source = next(originals)
                original += len(source.encode())
                changes.add(number, source, text)
                if kept and text != source:
                    raise ValueError(
                        f"corpus {corpus.name!r}, document {number} of {split} ({text[:40]!r} …): its tokens decode to another "
                        "text than the original, although nothing may be lost where text is rewritten. Take this document out, "
                        "and tell golflab's authors."
                    )
    facts = {"documents": len(documents), "tokens": sum(map(len, documents)), "counted": counted}
    if originals is None:
        return facts | {"original": None, "changed": None}
    changes.check(f"corpus {corpus.name!r}, {split}", original)
    return facts | {"original": original, "changed": changes.bytes}


def _groups(documents: Documents) -> Iterator[tuple[int, Documents]]:
    """The number of the first and the documents of each group of about `GROUP` tokens."""
    first = size = 0
    for number, document in enumerate(documents):
        size += len(document)
        if size >= GROUP or number == len(documents) - 1:
            yield first, documents[first : number + 1]
            first, size = number + 1, 0


def _cut_off(tokenizer: Tokenizer, document: np.ndarray) -> bool:
    """Whether a shard's last document ends within a character, and all before that is counted right."""
    shorter = [document[:-tail] for tail in range(1, 4) if len(document) > tail]
    return any(count(tokenizer, [d])[0] == len(tokenizer.decode(d).encode()) for d in shorter)


class _Changes:
    """What is lost or added by decoding, apart from compatibility characters and white space."""

    def __init__(self) -> None:
        self.lost, self.added, self.spaces = Counter[str](), Counter[str](), 0
        self.first: int | None = None

    def add(self, number: int, original: str, decoded: str) -> None:
        """Compare a document with what its tokens decode to."""
        before, after = (unicodedata.normalize("NFKC", text) for text in (original, decoded))
        spaces = 0
        if (a := before.split()) == (b := after.split()):
            spaces = max(0, len(after) - len(before))  # white space may be folded, not made
        else:
            one, other = Counter(" ".join(a)), Counter(" ".join(b))
            self.lost += one - other
            self.added += other - one
        self.spaces += spaces
        if self.first is None and (spaces or a != b):
            self.first = number

    @property
    def bytes(self) -> int:
        """Bytes lost or added, whichever are more."""
        lost, added = (sum(len(c.encode()) * n for c, n in found.items()) for found in (self.lost, self.added))
        return max(lost, added + self.spaces)

    def check(self, where: str, original: int) -> None:
        """Raise where that is more than `CHANGED` of the original bytes."""
        if self.bytes <= CHANGED * original:
            return
        shown = "".join(c for c, _ in self.lost.most_common(8))
        what = f"most often {shown!r} is lost" if shown else "white space is added"
        raise ValueError(
            f"{where}: the tokenizer changes {self.bytes:,} of {original:,} bytes ({self.bytes / original:.2%}), so the score "
            f"would be that of another text; {what}, first in document {self.first}. Use a SentencePiece model that spells "
            "unknown characters (byte_fallback=True) and keeps letters as they are (nmt_nfkc, nfkc or identity)."
        )


# ---------------------------------------------------------------------- overlap


def overlap_of(corpus: Corpus | ShardCorpus, tokenizer: Tokenizer | None = None) -> dict[str, Any]:
    """What `golflab.model.data.overlap.overlap` finds in a corpus, dev and test apart.

    Args:
        corpus: text, or shards.
        tokenizer: what made the shards; None for text, or where only BOS matters and is the challenge's.

    Raises:
        ValueError: a training shard holds tokens that the tokenizer does not know.
    """
    if isinstance(corpus, Corpus):
        held_out = {split: map(text_array, getattr(corpus, split)) for split in ("dev", "test")}
        return overlap(_shown(map(text_array, corpus.train)), held_out, BYTES)
    bos = BOS if tokenizer is None else tokenizer.own_bos
    if tokenizer is not None:
        for path in (*corpus.train, *corpus.held_out):
            check_ids(path, read_shard(path), tokenizer.vocabulary)
    train = (d for path in corpus.train for d in _bare(read_shard(path), bos))
    held = list(_bare(np.concatenate([read_shard(path) for path in corpus.held_out]), bos))
    half = (len(held) + 1) // 2
    return overlap(_shown(train), {"dev": held[:half], "test": held[half:]}, TOKENS)


def _bare(tokens: np.ndarray, bos: int) -> Iterator[np.ndarray]:
    """The documents of a token array, without their BOS."""
    for document in split_documents(tokens, bos):
        yield np.asarray(document[1:] if document[0] == bos else document)


def _shown(documents: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The documents, with a progress bar."""
    with Progress("overlap of training and held-out text", None) as bar:
        done = 0
        for document in documents:
            yield document
            done += len(document)
            bar.update(done, f"{done / 1e6:.1f} M")


def refuse_overlap(name: str, found: dict[str, Any], allow: bool) -> list[str]:
    """Notes on overlap, or a ValueError where there is too much of it and it was not asked for."""
    share, split = worst(found)
    if not share:
        return []
    text = f"{share_in_words(found, split)} of {split} stand in the training text, too"
    if share > SHARE and not allow:
        first = found["splits"][split]["first"]
        raise ValueError(
            f"corpus {name!r}: {text}, first in document {first}. More than {SHARE:.1%} is refused, because a model scores "
            "text better if it was trained on it. Take it out of the training files, or allow it with --allow-overlap "
            "(allow_overlap=True)."
        )
    return [text + (f": more than {SHARE:.1%}, and allowed." if share > SHARE else ".")]


# ---------------------------------------------------------------------- shards


def check_round_trip(corpus: ShardCorpus, tokenizer: Tokenizer, documents: Documents) -> None:
    """Decode some whole documents and encode them again; with the wrong tokenizer of the same size the tokens differ.

    Raises:
        ValueError: more than half of them come back different.
    """
    whole = documents[:-1]  # the last may be cut off
    sample = [d for d in itertools.islice(whole, 0, None, max(1, len(whole) // SAMPLE)) if len(d) > 1]
    changed = sum(not np.array_equal(tokenizer.encode(tokenizer.decode(d)), d) for d in sample)
    if changed > len(sample) / 2:
        raise ValueError(
            f"corpus {corpus.name!r}: {changed} of {len(sample)} held-out documents become other tokens when they are decoded "
            "and encoded again: the shards were made with another tokenizer. Give the .model file they were made with."
        )
