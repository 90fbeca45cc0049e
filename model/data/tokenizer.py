"""Converts text to token ids and back; knows the bytes that every token stands for.

SentencePiece with the challenge's settings, trained once per corpus and vocabulary, or any ``.model`` file.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import sentencepiece

from golflab.model.data.corpus import Corpus, ShardCorpus
from golflab.model.data.shards import BOS, exchanged
from golflab.model.system.files import locked, write_atomic

SAMPLE_BYTES = 20_000_000  # text a tokenizer is trained on, at most
SPACE = "\u2581"  # the mark SentencePiece puts for a space


class Rewriting(Protocol):
    """How text is rewritten before it becomes tokens: what `golflab.model.data.rewriting` makes, which travels only if used."""

    @property
    def name(self) -> str:
        """The technique with its knobs."""

    @property
    def module(self) -> str:
        """Dotted name of the technique's module."""

    def train(self, documents: Iterable[str], vocabulary: int) -> bytes:
        """Train a tokenizer on rewritten text."""

    def tokenizer(self, proto: bytes) -> Tokenizer:
        """A tokenizer of rewritten text from the content of a ``.model`` file."""


class Tokenizer:
    """A SentencePiece model and the byte tables of the challenge's metric.

    Ids are the model's own with one exception: BOS is always `golflab.model.data.shards.BOS`. In a model that has it elsewhere
    the two ids are exchanged wherever tokens enter or leave, so that everything behind this class may rely on it.

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
        self._fill_tables(exchanged(np.arange(self.vocabulary), self.own_bos))

    def _fill_tables(self, own: np.ndarray) -> None:
        """The byte tables; ``own`` (vocabulary,) is what the model calls each id."""
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
        self.bytes = np.where(spelled, 1, sizes).astype(np.int16)[own]
        self.leads, self.boundary = leads[own], boundary[own]
        self._pieces = [pieces[t] for t in own]
        self._spelled = spelled[own]

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

    def spelling(self) -> list[bytes]:
        """The UTF-8 bytes of every piece, a leading space included; none for control and unknown ids."""
        return [
            bytes([int(piece[1:-1], 16)]) if byte else piece.replace(SPACE, " ").encode()  # a byte piece is called <0x41>
            for piece, byte in zip(self._pieces, self._spelled, strict=True)
        ]

    def token_bytes(self, targets: np.ndarray, previous: np.ndarray) -> np.ndarray:
        """Bytes each target stands for, given the token in front of it: (n,) int64.

        Every space is a byte, except one that begins a piece behind an id of `boundary`, where it is not real.
        """
        real_space = self.leads[targets] & ~self.boundary[previous]
        return self.bytes[targets].astype(np.int64) + real_space


# SentencePiece's table of the challenge's normalisation, and what it takes for a piece: fitted to files of 512 to 8,192 ids.
NORMALISER_BYTES, PIECE_BYTES, FEWER_BYTES = 240_009, 16, 1_900


def forecast_bytes(path: str, vocabulary: int, text: Rewriting | None = None) -> int:
    """Length of a tokenizer's file: exactly where there is one at ``path``; else a forecast, within 3 % but for tiny ones.

    One of rewritten text normalises nothing and is shorter by the normalisation's table.
    """
    if path != "auto" and Path(path).is_file():
        return Path(path).stat().st_size
    return (NORMALISER_BYTES if text is None else 0) + max(0, PIECE_BYTES * vocabulary - FEWER_BYTES)


def check_ids(path: Path, tokens: np.ndarray, vocabulary: int) -> None:
    """Raise where a shard's tokens are no ids of the tokenizer."""
    if (top := int(tokens.max(initial=0))) >= vocabulary:
        raise ValueError(f"{path} holds token {top}, but the tokenizer knows only {vocabulary}; give the one it was made with.")


def tokenizer_for(
    corpus: Corpus | ShardCorpus,
    vocabulary: int,
    cache: Path,
    path: str = "auto",
    code: str = "",
    text: Rewriting | None = None,
) -> Tokenizer:
    """The tokenizer at ``path``; with ``auto``, the one that came with the shards, or one trained on the corpus and cached.

    ``code`` is a hash of the code that trains: another code's tokenizer is not used. ``text`` is how text is rewritten first.

    Raises:
        ValueError: no such file, no way to know which tokenizer made the shards, or a vocabulary that does not match.
    """
    if path == "auto" and isinstance(corpus, ShardCorpus):
        path = str(_beside_shards(corpus, vocabulary))
    if path != "auto":
        if not Path(path).is_file():
            raise ValueError(f"tokenizer {path!r}: there is no such file.")
        tokenizer = _load(Path(path), text)
        if tokenizer.vocabulary != vocabulary:
            raise ValueError(
                f"tokenizer {path!r} has {tokenizer.vocabulary} ids, the shape has vocabulary={vocabulary}; make them the same."
            )
        return tokenizer
    assert isinstance(corpus, Corpus)
    cache.mkdir(parents=True, exist_ok=True)
    kind = "" if text is None else f"-{text.name.partition(':')[0]}"  # its knobs change nothing about the model
    cached = cache / f"sp{vocabulary}-{corpus.fingerprint}{kind}-{code}.model"
    with locked(cached.with_suffix(".lock")):
        if not cached.exists():
            train = train_tokenizer if text is None else text.train
            write_atomic(cached, train(corpus.train, vocabulary))
    return _load(cached, text)


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


def tokenizer_of(proto: bytes, text: Rewriting | None = None) -> Tokenizer:
    """A tokenizer from the content of a ``.model`` file, of text that was rewritten first where ``text`` says how.

    Raises:
        ValueError: it cannot be used.
    """
    return _remembered(proto) if text is None else text.tokenizer(proto)


def _load(path: Path, text: Rewriting | None = None) -> Tokenizer:
    try:
        return tokenizer_of(path.read_bytes(), text)
    except (ValueError, OSError) as error:
        raise ValueError(f"tokenizer {str(path)!r}: {error}") from None


_remembered = lru_cache(maxsize=8)(Tokenizer)


def train_tokenizer(documents: Iterable[str], vocabulary: int, **settings: Any) -> bytes:
    """Train a SentencePiece BPE model with the challenge's settings on (a deterministic sample of) some documents.

    The documents are iterated twice where they hold no space. ``settings`` are SentencePiece's, instead of the challenge's.

    Raises:
        ValueError: the text is too small for so many pieces.
    """
    try:
        proto = _trained(documents, vocabulary, **settings)
        model = sentencepiece.SentencePieceProcessor(model_proto=proto)
        if model.piece_to_id(SPACE) != model.unk_id():
            return proto
        # Text without a space (Chinese, say) leaves none in the alphabet; later ones would be spelled as three bytes each.
        # SentencePiece before 0.2.3 ends the process if a required character never occurs, so one sentence has it.
        return _trained(itertools.chain(["0 0"], documents), vocabulary, **settings, required_chars=SPACE)
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"no tokenizer of {vocabulary} ids can be trained on this text: {str(error).splitlines()[0]}"
        ) from None


def _trained(documents: Iterable[str], vocabulary: int, **more: Any) -> bytes:
    model = io.BytesIO()
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "model_type": "bpe",
        "character_coverage": 0.999,
        "byte_fallback": True,
        "split_digits": True,
        "normalization_rule_name": "nmt_nfkc",
        "add_dummy_prefix": False,
        "pad_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "unk_id": 3,
        "hard_vocab_limit": True,
        "max_sentence_length": 16_384,
        "num_threads": 1,
        "minloglevel": 2,
    }
    settings |= more
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=_sample(documents), model_writer=model, **settings)
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
