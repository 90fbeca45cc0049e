"""Text that is rewritten before a tokenizer sees it, and a tokenizer that loses nothing of it.

Techniques in the slot ``text`` build a `Rewriting`. Their tokenizers keep every character: no normalisation, no white space
folded. So the bytes that tokens stand for are the bytes of the original text, exactly. `RewrittenTokenizer` does both: text is
rewritten and encoded; tokens are decoded and written back.

Some characters of the rewritten text are *markers*: they say something about the text that follows and stand for no bytes of
it. A marker that stands in the original text itself is preceded by the last marker, the *escape*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from golflab.model.data.shards import FUSED
from golflab.model.data.tokenizer import SPACE, Tokenizer, train_tokenizer

# Ids of a fused vocabulary, whatever the SentencePiece model calls them: the model's initial table must know them.
MARKERS_AT = 4  # the first marker's
SPACE_AT = 8  # of the piece that is a space alone
FUSED_AT = FUSED.start  # of the space and the first marker as one
PIECE = 1 << 22  # tokens of a shard that are fused at once
NEVER = (0xC0, 0xC1, 0xF5)  # bytes that no UTF-8 text holds, so that their ids are free


class Rewritten:
    """Documents, rewritten anew at every iteration."""

    def __init__(self, documents: Iterable[str], write: Callable[[str], str]) -> None:
        self.documents, self.write = documents, write

    def __iter__(self) -> Iterator[str]:
        return map(self.write, self.documents)


@dataclass(frozen=True)
class Rewriting:
    """How text is rewritten, and undone exactly.

    Attributes:
        name: the technique with its knobs; part of what identifies tokens.
        module: dotted name of the technique's module, whose source identifies them, too.
        write: text -> rewritten text.
        read: rewritten text -> text; of any text whatever, for a model may write what no text is rewritten to.
        markers: one character each; the last is the escape. None where nothing is marked.
        fused: how many of the markers are one token with a space in front of them.
    """

    name: str
    module: str
    write: Callable[[str], str]
    read: Callable[[str], str]
    markers: str = ""
    fused: int = 0

    def train(self, documents: Iterable[str], vocabulary: int) -> bytes:
        """Train a tokenizer on rewritten text: the challenge's settings, but that it keeps text as it is.

        Raises:
            ValueError: the text is too small for so many pieces.
        """
        settings: dict[str, Any] = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
        if self.markers:
            settings["user_defined_symbols"] = list(self.markers)
        return train_tokenizer(Rewritten(documents, self.write), vocabulary, **settings)

    def tokenizer(self, proto: bytes) -> RewrittenTokenizer:
        """A tokenizer of rewritten text from the content of a ``.model`` file.

        Raises:
            ValueError: it is none, or has no pieces for the markers.
        """
        return RewrittenTokenizer(proto, self)


class RewrittenTokenizer(Tokenizer):
    """A tokenizer of rewritten text: it takes and returns the original.

    With fused markers the ids are arranged anew: markers from `MARKERS_AT` on, the space at `SPACE_AT`, fused ones from
    `FUSED_AT` on, in the places of bytes that never occur.

    Args:
        proto: content of a ``.model`` file.
        rewriting: how its text was rewritten.

    Attributes:
        lossless: whether the SentencePiece model keeps all text; one that came with shards may fold white space.

    Raises:
        ValueError: no SentencePiece model, or one without a piece for each marker (and, to fuse, for the space and each byte).
    """

    def __init__(self, proto: bytes, rewriting: Rewriting) -> None:
        super().__init__(proto)
        self.rewriting = rewriting
        markers = [self._id(marker, "marker") for marker in rewriting.markers]
        self.spelled = [self.processor.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE.encode()]
        probe = f" a  b\n\u00bd {SPACE}"
        self.inner = np.arange(self.vocabulary, dtype=np.uint16)  # own id -> id in here
        for own, place in [(self.own_bos, self.bos), *self._arranged(markers)]:
            taken = int(np.flatnonzero(self.inner == place)[0])
            self.inner[[own, taken]] = self.inner[[taken, own]]
        self.own = np.argsort(self.inner)  # id in here -> own id
        self.markers = self.inner[np.array(markers, dtype=np.int64)]
        self._rearrange()
        self.lossless = self.decode(self.encode(probe)) == probe

    def _id(self, piece: str, what: str) -> int:
        found = int(self.processor.piece_to_id(piece))
        if found == self.processor.unk_id() or self.processor.id_to_piece(found) != piece:
            raise ValueError(
                f"this SentencePiece model has no piece {piece!a} ({what}), which text rewritten by {self.rewriting.name} "
                "holds; give one that was trained on such text, with the markers as user_defined_symbols."
            )
        return found

    def _arranged(self, markers: list[int]) -> list[tuple[int, int]]:
        """Own ids, those of the markers among them, and the places they go to where markers are fused."""
        if not self.rewriting.fused:
            return []
        free = [self._id(f"<0x{byte:02X}>", "a byte that no text holds") for byte in NEVER[: self.rewriting.fused]]
        space = self._id(SPACE, "the space alone")
        placed = [(own, MARKERS_AT + k) for k, own in enumerate(markers)]
        return [*placed, (space, SPACE_AT), *((own, FUSED_AT + k) for k, own in enumerate(free))]

    def _rearrange(self) -> None:
        """Byte tables by the ids in here; a marker stands for nothing, a fused one for its space."""
        self._fill_tables(self.own)
        self.bytes[self.markers], self.leads[self.markers] = 0, False
        fused = slice(FUSED_AT, FUSED_AT + self.rewriting.fused)
        self.bytes[fused], self.leads[fused], self.boundary[fused] = 0, True, False

    # ------------------------------------------------------------------ text and tokens

    def encode(self, text: str) -> np.ndarray:
        """Text to ids, BOS first: (1 + tokens,) uint16.

        Raises:
            ValueError: the text holds half of a surrogate pair, which has no UTF-8.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = text[error.start]
            raise ValueError(
                f"this text holds half of a surrogate pair, {half!a}, at character {error.start}, which has no UTF-8; "
                "take it out of the text."
            ) from None
        own = [self.own_bos]
        # SentencePiece writes a space as this character and cannot tell the two apart; its bytes can.
        for number, part in enumerate(self.rewriting.write(text).split(SPACE)):
            own += [*(self.spelled if number else ()), *self.processor.encode(part)]
        return self.fuse(self.arranged(np.array(own)))[0]

    def arranged(self, tokens: np.ndarray) -> np.ndarray:
        """The SentencePiece model's own ids to the ids in here, not fused: (n,) -> (n,) uint16."""
        return self.inner[np.asarray(tokens)]

    def fused_pieces(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """A long array of the SentencePiece model's own ids to the ids in here, piece by piece."""
        start = 0
        while start < len(tokens):
            end = min(len(tokens), start + PIECE)
            while end < len(tokens) and self.inner[tokens[end - 1]] == SPACE_AT:  # what it may be fused with comes along
                end += 1
            yield self.fuse(self.arranged(tokens[start:end]))[0]
            start = end

    def fuse(self, ids: np.ndarray, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Make one token of each space and fused marker behind it.

        Args:
            ids: (n,) arranged ids.
            counts: (n,) bytes each stands for, or None.

        Returns:
            Both, shorter.
        """
        offset = ids[1:].astype(np.int64) - MARKERS_AT
        first = np.flatnonzero((ids[:-1] == SPACE_AT) & (offset >= 0) & (offset < self.rewriting.fused))
        if not len(first):
            return ids, counts
        fused = ids.copy()
        fused[first] = FUSED_AT + offset[first]
        if counts is not None:
            counts = np.delete(counts, first + 1)  # a marker stands for no bytes
        return np.delete(fused, first + 1), counts

    def _split(self, ids: np.ndarray) -> np.ndarray:
        """Undo `fuse`."""
        marker = ids.astype(np.int64) - FUSED_AT
        where = np.flatnonzero((marker >= 0) & (marker < self.rewriting.fused))
        ids = np.array(ids)
        ids[where] = SPACE_AT
        return np.insert(ids, where + 1, MARKERS_AT + marker[where])

    def decode_all(self, documents: Sequence[np.ndarray]) -> list[str]:
        """Ids to the original text they stand for, for many documents; control ids are silent."""
        if not len(documents):
            return []
        own = [self.own[self._split(np.asarray(document))].tolist() for document in documents]
        return [self.rewriting.read(text) for text in self.processor.decode(own)]

    def token_bytes(self, targets: np.ndarray, previous: np.ndarray) -> np.ndarray:
        """Bytes of the original text each target stands for: (n,) int64.

        The targets must be neighbours, in order, and ``previous`` the same text one token earlier: whether a marker was
        escaped, and so is text, depends on all escapes in front of it.
        """
        sizes = super().token_bytes(targets, previous)
        if not len(self.markers) or not len(sizes):
            return sizes
        text = np.append(previous[:1], targets)
        literal = np.isin(text, self.markers) & np.append(False, self._escapes(text)[:-1])
        return sizes + len(self.rewriting.markers[-1].encode()) * literal[1:]

    def _escapes(self, text: np.ndarray) -> np.ndarray:
        """Which tokens are an escape and not an escaped one: every other of those in a row. (n,) bool."""
        here = np.asarray(text) == self.markers[-1]
        place = np.arange(len(here))
        begin = np.maximum.accumulate(np.where(here, -1, place))  # the last token in front of the row
        return here & ((place - begin) % 2 == 1)
