"""Text to token ids and back, the bytes every token stands for, and the token streams a run works on.

SentencePiece with the challenge's settings, trained once per corpus and vocabulary, or any ``.model`` file. `prepare`
turns a recipe's data into memory-mapped token arrays that all workers of a machine share.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from model.corpus import Corpus, ShardCorpus, load_corpus
from model.files import write_atomic
from model.progress import Progress
from model.recipe import Data, digest
from model.shards import BOS, Stream, exchanged, read_shard, split_documents, stage, write_shard

SAMPLE_BYTES = 20_000_000  # text a tokenizer is trained on, at most
SPACE = "\u2581"  # the mark SentencePiece puts for a space
Look = Callable[[list[np.ndarray], list[np.ndarray]], dict[str, Any]]  # documents of dev and test -> facts


class Tokenizer:
    """A SentencePiece model and the byte tables of the challenge's metric.

    Ids are the model's own with one exception: BOS is always `model.shards.BOS`. In a model that has it elsewhere the two
    ids are exchanged wherever tokens enter or leave, so that everything behind this class may rely on it.

    Args:
        proto: content of a ``.model`` file.

    Attributes:
        vocabulary: number of ids.
        bos: id every document begins with.
        fingerprint: hex digits identifying the model.
        bytes: (vocabulary,) int16; UTF-8 length of each piece without a leading space, 1 for byte pieces, 0 for control ids.
        leads: (vocabulary,) bool; whether the piece begins with a space.
        boundary: (vocabulary,) bool; ids behind which a leading space is not real: control and unused ids where the model
            drops a document's first space, and unknown ones where there can be none, because it spells by bytes.

    Raises:
        ValueError: no SentencePiece model, none with a BOS id, or one of more than 65,536 ids.
    """

    def __init__(self, proto: bytes) -> None:
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
            self.vocabulary: int = self.processor.vocab_size()
        except RuntimeError:
            raise ValueError("this is not a SentencePiece model; give the .model file that SentencePiece wrote.") from None
        self.proto = proto
        self.fingerprint = hashlib.sha256(proto).hexdigest()[:16]
        self.bos, self.own_bos = BOS, self.processor.bos_id()
        if self.own_bos < 0:
            raise ValueError(
                "this SentencePiece model has no BOS id, which stands before every document; train it with bos_id=1."
            )
        if self.vocabulary > 1 << 16:
            raise ValueError(f"this SentencePiece model has {self.vocabulary:,} ids; token shards hold 65,536 at most.")
        self._fill_tables()

    def _fill_tables(self) -> None:
        model, ids = self.processor, range(self.vocabulary)
        pieces = ["" if model.is_control(t) or model.is_unknown(t) or model.is_unused(t) else model.id_to_piece(t) for t in ids]
        spelled = np.array([model.is_byte(t) for t in ids])
        leads = np.array([piece.startswith(SPACE) for piece in pieces])
        sizes = [len(piece.removeprefix(SPACE).replace(SPACE, " ").encode()) for piece in pieces]
        boundary = np.array([not piece for piece in pieces])
        unknown = model.unk_id()
        self._unknown_text: str = model.decode([unknown]) if unknown >= 0 else ""
        if unknown >= 0 and not spelled.any():
            boundary[unknown] = False
        # A model that neither adds nor removes spaces keeps a document's first one. Its settings cannot be asked; it can.
        first = next((t for t in ids if leads[t] and not pieces[t][1:].startswith((SPACE, " "))), None)
        if first is not None and model.decode([first]).startswith(" "):
            boundary[:] = False
        own = exchanged(np.arange(self.vocabulary), self.own_bos)
        self.bytes = np.where(spelled, 1, sizes).astype(np.int16)[own]
        self.leads, self.boundary = leads[own], boundary[own]

    def encode(self, text: str) -> np.ndarray:
        """Text to ids, BOS first: (1 + tokens,) uint16."""
        return exchanged(np.array([self.own_bos, *self.processor.encode(text)], dtype=np.uint16), self.own_bos)

    def decode(self, tokens: np.ndarray) -> str:
        """Ids to the normalised text they stand for; control and unknown ids are silent."""
        return self.decode_all([tokens])[0]

    def decode_all(self, documents: Sequence[np.ndarray]) -> list[str]:
        """`decode` for many documents at once, which is faster."""
        if not len(documents):
            return []
        own = [exchanged(np.asarray(document), self.own_bos).tolist() for document in documents]
        texts = self.processor.decode(own)
        unknown = self.processor.unk_id()
        return [text.replace(self._unknown_text, "") if unknown in ids else text for text, ids in zip(texts, own, strict=True)]

    def token_bytes(self, targets: np.ndarray, previous: np.ndarray) -> np.ndarray:
        """Bytes each target stands for, given the token in front of it: (n,) int64.

        Every space is a byte, except one that begins a piece behind an id of `boundary`, where it is not real.
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
        facts: what `model.inspection` found: bytes, overlap, and notes for the record. Plain JSON values.
    """

    train: Stream
    dev: list[np.ndarray]
    test: list[np.ndarray]
    tokenizer: Tokenizer
    fingerprint: str
    facts: dict[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> list[np.ndarray]:
        """The documents of ``dev`` or ``test``."""
        return {"dev": self.dev, "test": self.test}[name]


def prepare(data: Data, vocabulary: int, cache: Path, local_disk: Path | None = None, *, inspected: bool = True) -> TokenData:
    """Turn a recipe's data into token arrays; what was made once is memory-mapped from ``cache`` afterwards.

    Any number of processes may call it at once: one works, the others wait. With ``local_disk`` the arrays are copied there
    once per node and mapped from there. Bytes and overlap are inspected once and kept with the tokens; an exported script,
    which travels without that, does not ask for it.

    Raises:
        ValueError: an unusable corpus, shard or tokenizer, a tokenizer of another vocabulary, bytes that are not counted
            right, or held-out text that stands in the training text.
    """
    corpus = load_corpus(data.corpus)
    cache.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_for(corpus, vocabulary, cache, data.tokenizer, made_by("model.tokens") if inspected else "")
    fingerprint = digest([corpus.fingerprint, tokenizer.fingerprint, made_by("model.tokens") if inspected else ""])
    folder = cache / f"tokens-{fingerprint}"
    with _locked(cache / f"{folder.name}.lock"):
        folder.mkdir(exist_ok=True)

        def look(dev: list[np.ndarray], test: list[np.ndarray]) -> dict[str, Any]:
            if not inspected:
                return {}
            from model.inspection import inspect

            return inspect(corpus, tokenizer, dev, test, folder / "facts.json", data.allow_overlap)

        if isinstance(corpus, ShardCorpus):
            return _from_shards(corpus, tokenizer, fingerprint, look, local_disk)
        return _from_text(corpus, tokenizer, fingerprint, look, folder, local_disk)


def made_by(module: str) -> str:
    """Twelve hex digits that change with the code that makes what is cached: `module` and all that it imports.

    An exported script does not ask: its cache is its own.
    """
    from model.sources import code_hash

    return code_hash([module])[:12]


def _from_text(
    corpus: Corpus, tokenizer: Tokenizer, fingerprint: str, look: Look, folder: Path, local_disk: Path | None
) -> TokenData:
    """Encode what the cache does not hold; the held-out part is looked at before the long training part is encoded."""

    def tokens(split: str) -> Path:
        path = folder / f"{split}.bin"
        if not _is_shard(path):
            encode_to(path, getattr(corpus, split), tokenizer, f"tokens for {split}")
        return path

    dev, test = (split_documents(read_shard(tokens(split))) for split in ("dev", "test"))
    facts = look(dev, test)
    return TokenData(Stream([read_shard(stage(tokens("train"), local_disk))]), dev, test, tokenizer, fingerprint, facts)


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


def _from_shards(corpus: ShardCorpus, tokenizer: Tokenizer, fingerprint: str, look: Look, local_disk: Path | None) -> TokenData:
    train = [read_shard(stage(path, local_disk)) for path in corpus.train]
    held_out = [read_shard(path) for path in corpus.held_out]
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
    documents = split_documents(whole)
    if len(documents) < 2:
        raise ValueError(f"corpus {corpus.name!r}: its validation shards hold one document; dev and test need one each.")
    half = (len(documents) + 1) // 2
    dev, test = documents[:half], documents[half:]
    return TokenData(Stream(train, tokenizer.own_bos), dev, test, tokenizer, fingerprint, look(dev, test))


def check_ids(path: Path, tokens: np.ndarray, vocabulary: int) -> None:
    """Raise where a shard's tokens are no ids of the tokenizer."""
    if (top := int(tokens.max(initial=0))) >= vocabulary:
        raise ValueError(f"{path} holds token {top}, but the tokenizer knows only {vocabulary}; give the one it was made with.")


# ---------------------------------------------------------------------- tokenizers


def tokenizer_for(corpus: Corpus | ShardCorpus, vocabulary: int, cache: Path, path: str = "auto", code: str = "") -> Tokenizer:
    """The tokenizer at ``path``; with ``auto``, the one that came with the shards, or one trained on the corpus and cached.

    ``code`` is `made_by` of the code that trains: another code's tokenizer is not used.

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
    cached = cache / f"sp{vocabulary}-{corpus.fingerprint}-{code}.model"
    with _locked(cached.with_suffix(".lock")):
        if not cached.exists():
            write_atomic(cached, train_tokenizer(corpus.train, vocabulary))
    return _load(cached)


def _beside_shards(corpus: ShardCorpus, vocabulary: int) -> Path:
    """The tokenizer that lies beside shards and has so many ids by its name, or the only one there."""
    found = _models(corpus)
    named = [p for p in found if f"_{vocabulary}_" in p.name] or (found if len(found) == 1 else [])
    if not named:
        folder = corpus.train[0].parent.resolve()
        raise ValueError(
            f"corpus {corpus.name!r}: no tokenizer of {vocabulary} ids beside the shards (looked in {folder} and "
            f"{folder.parent.parent / 'tokenizers'}); give the path of the .model file they were made with."
        )
    return named[0]


def beside(corpus: ShardCorpus) -> Tokenizer | None:
    """The tokenizer that lies beside shards, if there is exactly one."""
    found = _models(corpus)
    return _load(found[0]) if len(found) == 1 else None


def _models(corpus: ShardCorpus) -> list[Path]:
    """The official layout keeps tokenizers two folders up; a copy in the shards' own folder is found too."""
    folder = corpus.train[0].parent.resolve()
    places = (folder, folder.parent.parent / "tokenizers")
    return [p for place in places for p in sorted(place.glob("*.model")) if not p.name.startswith(".")]


def _load(path: Path) -> Tokenizer:
    try:
        return _remembered(path.read_bytes())
    except (ValueError, OSError) as error:
        raise ValueError(f"tokenizer {str(path)!r}: {error}") from None


_remembered = lru_cache(maxsize=8)(Tokenizer)


def train_tokenizer(documents: Iterable[str], vocabulary: int) -> bytes:
    """Train a SentencePiece BPE model with the challenge's settings on (a deterministic sample of) some documents.

    The documents are iterated twice where they hold no space.

    Raises:
        ValueError: the text is too small for so many pieces.
    """
    try:
        proto = _trained(documents, vocabulary)
        model = sentencepiece.SentencePieceProcessor(model_proto=proto)
        if model.piece_to_id(SPACE) != model.unk_id():
            return proto
        # Text without a space (Chinese, say) leaves none in the alphabet; later ones would be spelled as three bytes each.
        return _trained(documents, vocabulary, required_chars=SPACE)
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"no tokenizer of {vocabulary} ids can be trained on this text: {str(error).splitlines()[0]}"
        ) from None


def _trained(documents: Iterable[str], vocabulary: int, **more: Any) -> bytes:
    model = io.BytesIO()
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
        **more,
    )
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
