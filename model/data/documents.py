"""Documents of text files, read again at every iteration: one per line of JSON, or the text between blank lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golflab.model.data.readers import lines

LONG_PIECE = 1 << 20  # characters after which plain text is cut at a line end, so that a document is bounded


@dataclass(frozen=True)
class Documents:
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


def _read(path: Path, piece: int) -> Iterator[str]:
    """Documents of one file, empty ones left out."""
    if not re.search(r"\.jsonl(\.\w+)?$", path.name):
        yield from _cut((line for _, line in lines(path)), piece)
        return
    for number, line in lines(path):
        if line.strip():
            text = _text_of(path, number, line)
            if text.strip():
                yield text


def _text_of(path: Path, number: int, line: str) -> str:
    """The document that a line of JSON holds."""
    where = f"{path}, line {number}"
    try:
        body = json.loads(line, object_pairs_hook=_once if line.count('"text"') > 1 else None)
    except (ValueError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{where}: not JSON ({why}).") from None
    if not isinstance(body, dict) or not isinstance(body.get("text"), str):
        raise ValueError(f'{where}: each line must be an object with a string "text".')
    text: str = body["text"]
    if "\\u" in line and (half := re.search("[\ud800-\udfff]", text)):
        raise ValueError(
            f"{where}: half a character (surrogate \\u{ord(half[0]):04x}) at character {half.start()}; mend the text."
        )
    return text


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's pairs; an error where the key ``text`` appears twice."""
    if [key for key, _ in pairs].count("text") > 1:
        raise ValueError('the key "text" stands twice')
    return dict(pairs)


def _cut(lines_: Iterable[str], piece: int) -> Iterator[str]:
    """Cut a text at the first blank line after every ``piece`` characters, or after the line that reaches `LONG_PIECE`."""
    kept: list[str] = []
    size = 0
    for line in lines_:
        kept.append(line)
        size += len(line)
        if (size >= piece and not line.strip()) or size >= LONG_PIECE:
            yield "".join(kept)
            kept, size = [], 0
    if "".join(kept).strip():
        yield "".join(kept)
