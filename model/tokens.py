"""Text to token ids and back, the bytes every token stands for, and the token streams a run works on.

SentencePiece with the challenge's settings, trained once per corpus and vocabulary, or any ``.model`` file. `prepare`
turns a recipe's data into memory-mapped token arrays that all workers of a machine share.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import sentencepiece

from model.corpus import Corpus, ShardCorpus, load_corpus
from model.progress import Progress
from model.recipe import Data, digest
from model.record import write_atomic
from model.shards import Stream, read_shard, split_documents, stage, write_shard

SAMPLE_BYTES = 20_000_000  # text a tokenizer is trained on, at most
VERSION = 1  # of what is cached; raise it when tokenisation changes
SPACE = "\u2581"  # the mark SentencePiece puts for a space


class Tokenizer:
    """A SentencePiece model and the byte tables of the challenge's metric.

    Args:
        proto: content of a ``.model`` file.

    Attributes:
        vocabulary: number of ids.
        bos: id every document begins with.
        fingerprint: hex digits identifying the model.
        bytes: (vocabulary,) int16; UTF-8 length of each piece without its leading space, 1 for byte pieces, 0 for control ids.
        leads: (vocabulary,) bool; whether the piece begins with a space.
        boundary: (vocabulary,) bool; control, unknown and unused ids, behind which a leading space is not real.
    """

    def __init__(self, proto: bytes) -> None:
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
            self.vocabulary: int = self.processor.vocab_size()
        except RuntimeError:
            raise ValueError("this is not a SentencePiece model; give the .model file that SentencePiece wrote.") from None
        self.proto = proto
        self.fingerprint = hashlib.sha256(proto).hexdigest()[:16]
        self.bos: int = self.processor.bos_id()
        if self.bos < 0:
            raise ValueError("this SentencePiece model has no BOS id; the metric needs one in front of every document.")
        self.bytes = np.zeros(self.vocabulary, dtype=np.int16)
        self.leads = np.zeros(self.vocabulary, dtype=bool)
        self.boundary = np.zeros(self.vocabulary, dtype=bool)
        for token in range(self.vocabulary):
            self._measure(token)

    def _measure(self, token: int) -> None:
        """Fill the three tables for one id."""
        model = self.processor
        if model.is_control(token) or model.is_unknown(token) or model.is_unused(token):
            self.boundary[token] = True
        elif model.is_byte(token):
            self.bytes[token] = 1
        else:
            piece: str = model.id_to_piece(token)
            self.leads[token] = piece.startswith(SPACE)
            self.bytes[token] = len(piece.removeprefix(SPACE).encode())

    def encode(self, text: str) -> np.ndarray:
        """Text to ids, BOS first: (1 + tokens,) uint16."""
        return np.array([self.bos, *self.processor.encode(text)], dtype=np.uint16)

    def decode(self, tokens: np.ndarray) -> str:
        """Ids to the normalised text they stand for; control ids are silent."""
        return self.processor.decode([int(t) for t in tokens])

    def token_bytes(self, targets: np.ndarray, previous: np.ndarray) -> np.ndarray:
        """Bytes each target stands for, given the token in front of it: (n,) int64.

        A leading space is a byte of its own, except behind a control id, where it is not real.
        """
        real_space = self.leads[targets] & ~self.boundary[previous]
        return self.bytes[targets].astype(np.int64) + real_space


@dataclass(frozen=True)
class TokenData:
    """A recipe's data, ready to use.

    Attributes:
        train: the training stream, every document beginning with BOS.
        dev: documents a search scores on, (tokens,) uint16 each.
        test: documents no search sees.
        tokenizer: what made them.
        fingerprint: hex digits identifying corpus and tokenizer; the first stage's key.
    """

    train: Stream
    dev: list[np.ndarray]
    test: list[np.ndarray]
    tokenizer: Tokenizer
    fingerprint: str

    def split(self, name: str) -> list[np.ndarray]:
        """The documents of ``dev`` or ``test``."""
        return {"dev": self.dev, "test": self.test}[name]


def prepare(data: Data, vocabulary: int, cache: Path, local_disk: Path | None = None) -> TokenData:
    """Turn a recipe's data into token arrays; what was made once is memory-mapped from ``cache`` afterwards.

    Any number of processes may call it at once: one works, the others wait. With ``local_disk`` the arrays are copied there
    once per node and mapped from there.

    Raises:
        ValueError: an unusable corpus, shard or tokenizer, or a tokenizer of another vocabulary.
    """
    corpus = load_corpus(data.corpus)
    cache.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_for(corpus, vocabulary, cache, data.tokenizer)
    fingerprint = digest([corpus.fingerprint, tokenizer.fingerprint, VERSION])
    if isinstance(corpus, ShardCorpus):
        return _from_shards(corpus, tokenizer, fingerprint, local_disk)
    folder = cache / f"tokens-{fingerprint}"
    files = {split: folder / f"{split}.bin" for split in ("train", "dev", "test")}
    with _locked(cache / f"{folder.name}.lock"):
        folder.mkdir(exist_ok=True)
        for split, path in files.items():
            if not _is_shard(path):
                _encode(getattr(corpus, split), tokenizer, path, f"tokens for {split}")
    dev, test = (split_documents(read_shard(files[split]), tokenizer.bos) for split in ("dev", "test"))
    return TokenData(Stream([read_shard(stage(files["train"], local_disk))]), dev, test, tokenizer, fingerprint)


def _encode(documents: Iterable[str], tokenizer: Tokenizer, path: Path, what: str) -> None:
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


def _from_shards(corpus: ShardCorpus, tokenizer: Tokenizer, fingerprint: str, local_disk: Path | None) -> TokenData:
    train = Stream([read_shard(stage(path, local_disk)) for path in corpus.train])
    held_out = [read_shard(path) for path in corpus.held_out]
    for path, tokens in zip((*corpus.train, *corpus.held_out), (*train.parts, *held_out), strict=False):
        top = int(tokens[:1_000_000].max(initial=0))
        if top >= tokenizer.vocabulary:
            raise ValueError(
                f"{path} holds token {top}, but the tokenizer knows only {tokenizer.vocabulary}; give the one it was made with."
            )
    documents = [document for tokens in held_out for document in split_documents(tokens, tokenizer.bos)]
    half = (len(documents) + 1) // 2
    return TokenData(train, documents[:half], documents[half:], tokenizer, fingerprint)


# ---------------------------------------------------------------------- tokenizers


def tokenizer_for(corpus: Corpus | ShardCorpus, vocabulary: int, cache: Path, path: str = "auto") -> Tokenizer:
    """The tokenizer at ``path``; with ``auto``, the one that came with the shards, or one trained on the corpus and cached.

    Raises:
        ValueError: no such file, no way to know which tokenizer made the shards, or a vocabulary that does not match.
    """
    if path == "auto" and isinstance(corpus, ShardCorpus):
        path = str(_beside_shards(corpus, vocabulary))
    if path != "auto":
        if not Path(path).is_file():
            raise ValueError(f"tokenizer {path!r}: there is no such file.")
        tokenizer = _load(Path(path))
        if tokenizer.vocabulary != vocabulary:
            raise ValueError(
                f"tokenizer {path!r} has {tokenizer.vocabulary} ids, the shape has vocabulary={vocabulary}; make them the same."
            )
        return tokenizer
    assert isinstance(corpus, Corpus)
    cache.mkdir(parents=True, exist_ok=True)
    cached = cache / f"sp{vocabulary}-{corpus.fingerprint}-v{VERSION}.model"
    with _locked(cached.with_suffix(".lock")):
        if not cached.exists():
            write_atomic(cached, train_tokenizer(corpus.train, vocabulary))
    return _load(cached)


def _beside_shards(corpus: ShardCorpus, vocabulary: int) -> Path:
    """The official layout keeps tokenizers two folders up; a copy in the shards' own folder is found too."""
    folder = corpus.train[0].parent.resolve()
    found: list[Path] = [p for place in (folder, folder.parent.parent / "tokenizers") for p in sorted(place.glob("*.model"))]
    named = [p for p in found if f"_{vocabulary}_" in p.name] or (found if len(found) == 1 else [])
    if not named:
        raise ValueError(
            f"corpus {corpus.name!r}: no tokenizer of {vocabulary} ids beside the shards (looked in {folder} and "
            f"{folder.parent.parent / 'tokenizers'}); give the path of the .model file they were made with."
        )
    return named[0]


@lru_cache(maxsize=8)
def _load(path: Path) -> Tokenizer:
    return Tokenizer(path.read_bytes())


def train_tokenizer(documents: Iterable[str], vocabulary: int) -> bytes:
    """Train a SentencePiece BPE model with the challenge's settings on (a deterministic sample of) some documents.

    Raises:
        ValueError: the text is too small for so many pieces.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sample(documents),
            model_writer=model,
            vocab_size=vocabulary,
            model_type="bpe",
            character_coverage=0.999,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="nmt_nfkc",
            add_dummy_prefix=False,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            hard_vocab_limit=True,
            max_sentence_length=16_384,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"no tokenizer of {vocabulary} ids can be trained on this text: {str(error).splitlines()[0]}"
        ) from None
    return model.getvalue()


def _sample(documents: Iterable[str]) -> Iterator[str]:
    """Lines of the documents, up to `SAMPLE_BYTES` in all; longer ones are cut, because the trainer would skip them."""
    left = SAMPLE_BYTES
    for document in documents:
        for line in document.split("\n"):
            for start in range(0, len(line), 4_000):
                piece = line[start : start + 4_000].strip()
                if piece:
                    yield piece
                left -= len(piece.encode())
        if left <= 0:
            return


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; the operating system drops it if the process dies."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
