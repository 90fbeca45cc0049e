"""A recipe's data, ready to use: memory-mapped token arrays that all workers of a machine share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from golflab.model.data.corpus import Corpus, ShardCorpus, counted, load_corpus
from golflab.model.data.shards import BOS, Stream, exchanged, read_shard, split_documents, stage, write_shard
from golflab.model.data.tokenizer import Rewriting, Tokenizer, check_ids, tokenizer_for
from golflab.model.recipe import Recipe, digest
from golflab.model.shape import Data
from golflab.model.system.files import locked
from golflab.model.system.progress import Progress

Look = Callable[[list[np.ndarray], list[np.ndarray]], dict[str, Any]]  # documents of dev and test -> facts


@dataclass(frozen=True)
class TokenData:
    """A recipe's data, ready to use.

    Attributes:
        train: the training stream, every document beginning with BOS.
        dev: documents a search scores on, (tokens,) uint16 each.
        test: documents no search sees.
        tokenizer: what made them.
        fingerprint: hex digits identifying corpus and tokenizer; the first stage's key.
        counts: for ``dev`` and ``test``, bytes of the original text that every token stands for, (tokens,) uint16 a document,
            where byte sidecars tell; empty where the tokenizer does.
        facts: what `golflab.model.data.inspection` found: bytes, overlap, and notes for the record. Plain JSON values.
    """

    train: Stream
    dev: list[np.ndarray]
    test: list[np.ndarray]
    tokenizer: Tokenizer
    fingerprint: str
    counts: dict[str, list[np.ndarray]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> list[np.ndarray]:
        """The documents of ``dev`` or ``test``."""
        return {"dev": self.dev, "test": self.test}[name]


def rewriting_of(recipe: Recipe) -> Rewriting | None:
    """How a recipe rewrites its text, or None."""
    return recipe.build("text")


def prepared(recipe: Recipe, cache: Path, local_disk: Path | None = None, *, inspected: bool = True) -> TokenData:
    """`prepare` a recipe's data, its text rewritten as its slot ``text`` says."""
    text = rewriting_of(recipe)
    return prepare(recipe.data, recipe.shape.vocabulary, cache, local_disk, text=text, inspected=inspected)


def prepare(
    data: Data,
    vocabulary: int,
    cache: Path,
    local_disk: Path | None = None,
    *,
    text: Rewriting | None = None,
    inspected: bool = True,
) -> TokenData:
    """Turn data into token arrays; they are kept in ``cache`` and memory-mapped from there.

    Any number of processes may call it at once: one works, the others wait. With ``local_disk`` the arrays are copied there
    once per node and mapped from there. Bytes and overlap are inspected once, and the result is kept with the tokens;
    an exported script does not contain the inspection and passes ``inspected=False``. ``text`` says how text is rewritten
    before it becomes tokens.

    Raises:
        ValueError: an unusable corpus, shard or tokenizer, a tokenizer of another vocabulary, bytes that are counted
            wrongly, or held-out text that is also in the training text.
    """
    corpus = load_corpus(data.corpus)
    cache.mkdir(parents=True, exist_ok=True)
    code = _code(text) if inspected else ""
    tokenizer = tokenizer_for(corpus, vocabulary, cache, data.tokenizer, code, text)
    fingerprint = digest([corpus.fingerprint, tokenizer.fingerprint, code, *([] if text is None else [text.name])])
    folder = cache / f"tokens-{fingerprint}"
    with locked(cache / f"{folder.name}.lock"):
        folder.mkdir(exist_ok=True)

        def look(dev: list[np.ndarray], test: list[np.ndarray]) -> dict[str, Any]:
            if not inspected:
                return {}
            from golflab.model.data.inspection import inspect

            return inspect(corpus, tokenizer, dev, test, folder / "facts.json", data.allow_overlap)

        if isinstance(corpus, ShardCorpus):
            return _from_shards(corpus, tokenizer, fingerprint, look, folder, local_disk)
        return _from_text(corpus, tokenizer, fingerprint, look, folder, local_disk)


def _code(text: Rewriting | None) -> str:
    """Hex digits that change with the code that makes what is cached. An exported script does not ask: its cache is its own."""
    from golflab.model.system.sources import code_hash

    return code_hash([__name__, *([] if text is None else [text.module])])[:12]


def _from_text(
    corpus: Corpus, tokenizer: Tokenizer, fingerprint: str, look: Look, folder: Path, local_disk: Path | None
) -> TokenData:
    """Encode what the cache does not hold; the held-out part is inspected before the long training part is encoded."""
    if not getattr(tokenizer, "lossless", True):
        raise ValueError(
            f"corpus {corpus.name!r}: the tokenizer normalises text, so its tokens do not tell the bytes of the original text. "
            "Give one that was trained with normalization_rule_name=identity and remove_extra_whitespaces=false; "
            "tokenizer='auto' trains one."
        )

    def tokens(split: str) -> Path:
        path = folder / f"{split}.bin"
        if not _is_shard(path):
            encode_to(path, getattr(corpus, split), tokenizer, f"tokens for {split}")
        return path

    dev, test = (split_documents(read_shard(tokens(split))) for split in ("dev", "test"))
    facts = look(dev, test)
    train = Stream([read_shard(stage(tokens("train"), local_disk))])
    return TokenData(train, dev, test, tokenizer, fingerprint, facts=facts)


def encode_to(path: Path, documents: Iterable[str], tokenizer: Tokenizer, what: str) -> None:
    """Write documents as one token shard, with a progress bar that says ``what``."""
    total = sum(map(len, documents)) if isinstance(documents, list) else None

    def pieces() -> Iterator[np.ndarray]:
        done = 0
        with Progress(what, total) as bar:
            for document in documents:
                yield tokenizer.encode(document)
                done += len(document)
                bar.update(done, f"{done / 1e6:.1f} M characters")

    write_shard(path, pieces())


def _is_shard(path: Path) -> bool:
    """Whether a cached file is whole; a damaged one is made again."""
    try:
        return path.exists() and read_shard(path) is not None
    except ValueError:
        return False


def _from_shards(
    corpus: ShardCorpus, tokenizer: Tokenizer, fingerprint: str, look: Look, folder: Path, local_disk: Path | None
) -> TokenData:
    train, held_out = ([read_shard(path) for path in paths] for paths in (corpus.train, corpus.held_out))
    for path, tokens in [*zip(corpus.train, train, strict=True), *zip(corpus.held_out, held_out, strict=True)]:
        check_ids(path, tokens[:1_000_000], tokenizer.vocabulary)
    # A document may begin in one shard and end in the next.
    whole = exchanged(held_out[0] if len(held_out) == 1 else np.concatenate(held_out), tokenizer.own_bos)
    if not len(whole) or whole[0] != BOS:
        begins = f"begins with token {int(held_out[0][0])}" if len(held_out[0]) else "is empty"
        raise ValueError(
            f"{corpus.held_out[0]} {begins}, not with BOS (id {tokenizer.own_bos}): its first document is cut off, or a shard "
            "in front of it is missing. Get the whole validation shard; a part of a document cannot be scored like the whole."
        )
    rewritten: Any = tokenizer if hasattr(tokenizer, "rewriting") else None
    counts = None if rewritten is None else counted(corpus)
    paths, bos = list(corpus.train), tokenizer.own_bos
    if rewritten is not None and rewritten.rewriting.fused:
        whole, counts = rewritten.fuse(rewritten.arranged(np.concatenate(held_out)), counts)
        paths, bos = [_fused(path, folder / f"fused-{path.name}", rewritten) for path in paths], BOS
    documents = split_documents(whole)
    if len(documents) < 2:
        raise ValueError(f"corpus {corpus.name!r}: its validation shards hold one document; dev and test need one each.")
    half = (len(documents) + 1) // 2
    dev, test = documents[:half], documents[half:]
    by_split = {} if counts is None else {"dev": _cut(counts, dev), "test": _cut(counts[sum(map(len, dev)) :], test)}
    stream = Stream([read_shard(stage(path, local_disk)) for path in paths], bos)
    return TokenData(stream, dev, test, tokenizer, fingerprint, by_split, look(dev, test))


def _cut(counts: np.ndarray, documents: list[np.ndarray]) -> list[np.ndarray]:
    """Counts of tokens, document by document."""
    ends = np.cumsum([len(document) for document in documents])
    return np.split(counts[: ends[-1]], ends[:-1])


def _fused(path: Path, to: Path, tokenizer: Any) -> Path:
    """A training shard with its markers fused, in the cache."""
    if not _is_shard(to):
        write_shard(to, tokenizer.fused_pieces(read_shard(path)))
    return to
