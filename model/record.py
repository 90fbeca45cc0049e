"""Record: what one finished, pruned or failed run leaves behind. Imports no torch, so that an analysis starts quickly.

A record is a folder: ``record.json`` (everything readable) and ``documents.npz`` (bits and bytes of every document
scored, the raw material of paired comparisons). Both are written to a temporary name, flushed and renamed.

A record is checked when it is read (`golflab.model.schema`), since somebody may have edited it. A damaged one is reported and
left out.
"""

from __future__ import annotations

import errno
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from golflab.model.schema import STATES, WHOLE_FIELDS, damaged_in_words, problem
from golflab.model.system.files import write_atomic
from golflab.model.system.untrusted import parse_json, read_json, read_whole

# `problem` and `read_json` are used by analyses, too, which import this module and none below it.
__all__ = [
    "STATES",
    "Found",
    "Record",
    "damaged_in_words",
    "disk_full",
    "folders_in",
    "load_documents",
    "look_through",
    "problem",
    "read_body",
    "read_json",
    "records_in",
    "shown_path",
]  # fmt: skip

MOST_BYTES = 64_000_000  # of a record.json; a long run's is a hundredth of that


@dataclass
class Record:
    """One run.

    Attributes:
        recipe: hash of the recipe.
        seed: the recipe's seed.
        preset: the label it was derived from.
        state: one of `STATES`.
        spec: the recipe as JSON.
        reason: why it did not complete; empty if it did.
        bpb: bits per byte of the unpacked artifact on the recipe's split; None unless complete.
        bpb_float: the same before quantisation; None for a recipe that trains at test time, where a second scoring costs
            too much.
        bytes: packed weights + code.
        code_bytes: the code that must travel with the weights, the module that rewrites text (`caseops`) included.
        tokenizer_bytes: the tokenizer's file, which the challenge does not count; None in records from before it was told.
        bytes_forecast: ``low``, ``mid``, ``high`` bytes predicted before training.
        parameters: number of parameters.
        tokens: training tokens seen.
        seconds: training seconds on the clock (of the training it shares, if it came from the stage cache).
        tokens_per_second: their ratio.
        trained: whether this run trained, or found its training in the stage cache.
        training: key of the training it used; runs that share it differ only after training.
        stages: seconds spent per stage in this run.
        curve: training curve: dictionaries with step, tokens, seconds, loss, and bpb and bytes at rungs.
        notes: anything a reader should know (for example, what was retried).
        machine: versions and hardware.
        overlap: how much of the held-out text stands in the training text: `golflab.model.data.overlap.overlap`.
        finishings: what else the training was finished with, and the paired differences: see `golflab.model.ways.compare`.
        trial: its number in the search; None for a run of its own.
        started: when the search started it, as ISO 8601 text in UTC; empty for a run of its own.
        ended: when the search learned that it had ended.
        proposed: where the proposal came from (``source``), and how many combinations were ``asked`` for and ``not_fitting``.
    """

    recipe: str
    seed: int
    preset: str
    state: str
    spec: dict[str, Any]
    reason: str = ""
    bpb: float | None = None
    bpb_float: float | None = None
    bytes: int | None = None
    code_bytes: int | None = None
    tokenizer_bytes: int | None = None
    bytes_forecast: dict[str, float] | None = None
    parameters: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    trained: bool = True
    training: str = ""
    stages: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=dict)
    overlap: dict[str, Any] = field(default_factory=dict)
    finishings: list[dict[str, Any]] = field(default_factory=list)
    # What the search adds; two runs of one recipe are equal without it.
    trial: int | None = field(default=None, compare=False)
    started: str = field(default="", compare=False)
    ended: str = field(default="", compare=False)
    proposed: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"record: state={self.state!r} must be one of {', '.join(STATES)}.")

    @property
    def fits(self) -> bool:
        """Whether it completed, within its byte limit."""
        limit = self.spec.get("limit")
        return self.state == "complete" and self.bpb is not None and (limit is None or (self.bytes or 0) <= limit)

    @property
    def bytes_with_tokenizer(self) -> int | None:
        """Code, weights and tokenizer together: the second total, by which nothing is judged."""
        return None if self.bytes is None or self.tokenizer_bytes is None else self.bytes + self.tokenizer_bytes

    def summary(self) -> dict[str, Any]:
        """The object `golflab run --json` prints."""
        keys = "preset recipe seed state reason bpb bpb_float bytes code_bytes bytes_forecast parameters tokens seconds"
        more = ("tokens_per_second", "tokenizer_bytes", "bytes_with_tokenizer")
        return {key: getattr(self, key) for key in (*keys.split(), *more)}

    def with_what_the_search_added(self, earlier: Record | None) -> Record:
        """The record with the search's own fields of an earlier one of the same run, which this one replaces."""
        own = {f.name: getattr(earlier, f.name) for f in fields(self) if not f.compare} if earlier else {}
        return replace(self, **own)

    def save(self, folder: Path, bits: np.ndarray | None = None, document_bytes: np.ndarray | None = None) -> Path:
        """Write the record under ``folder``; documents first, so that a record present is a record complete.

        Args:
            folder: created if missing.
            bits: (documents,) float64, bits per document.
            document_bytes: (documents,) int64, bytes per document.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if bits is not None and document_bytes is not None:
            buffer = io.BytesIO()
            np.savez(buffer, bits=bits, bytes=document_bytes)
            write_atomic(folder / "documents.npz", buffer.getvalue())
        write_atomic(folder / "record.json", json.dumps(asdict(self), allow_nan=False).encode())
        return folder

    @staticmethod
    def load(folder: Path) -> Record:
        """Read a record back; fields a later version added are ignored.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged; the message says how.
        """
        body = read_body(folder)
        for name in WHOLE_FIELDS:
            if isinstance(body.get(name), float):  # 1024.0, as a table writes it
                body[name] = int(body[name])
        return Record(**{f.name: body[f.name] for f in fields(Record) if f.name in body})

    @staticmethod
    def read(folder: Path) -> Record | None:
        """The record in a folder; None where there is none or it is damaged, so that its run is repeated."""
        try:
            return Record.load(folder)
        except (FileNotFoundError, ValueError):
            return None


def read_body(folder: Path, parse: Callable[[bytes], Any] = parse_json) -> dict[str, Any]:
    """A record as JSON holds it, checked.

    Args:
        folder: of the record; where its name is a recipe's hash, the record must be of that recipe.
        parse: reads JSON, and raises a `ValueError` where that cannot be done.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged; the message says how.
    """
    body = parse(read_whole(folder / "record.json", MOST_BYTES))
    if reason := problem(body, folder.name):
        raise ValueError(reason)
    return dict(body)


def load_documents(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Bits (documents,) and bytes (documents,) of a record's evaluation.

    Raises:
        FileNotFoundError: there are none.
        ValueError: they are damaged.
    """
    path = folder / "documents.npz"
    try:
        with np.load(io.BytesIO(read_whole(path, 1 << 32)), allow_pickle=False) as stored:
            bits, sizes = stored["bits"], stored["bytes"]
        sound = bits.ndim == 1 and bits.shape == sizes.shape and np.isfinite(bits).all() and (sizes > 0).all()
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not sound:
        raise ValueError(f"{path} is damaged: it holds no bits and bytes of documents.")
    return bits, sizes


@dataclass(frozen=True)
class Found:
    """What lies under a folder.

    Attributes:
        records: every sound record with its own folder, in name order.
        damaged: the others: the path of each (from the folder above the one looked through), and what is wrong with it.
    """

    records: list[tuple[Path, Record]]
    damaged: list[str]

    def in_words(self) -> str:
        """How many are damaged, and which, in a sentence; empty where none is."""
        return damaged_in_words(self.damaged)


def look_through(folder: Path) -> Found:
    """Read every record under ``folder``; what is damaged is named and left out."""
    damaged: list[str] = []
    read = ((place, _read(place, folder, damaged)) for place in folders_in(folder, damaged))
    return Found([(place, record) for place, record in read if record is not None], damaged)


def _read(place: Path, root: Path, damaged: list[str]) -> Record | None:
    try:
        return Record.load(place)
    except FileNotFoundError:  # it was removed just now
        return None
    except ValueError as error:
        damaged.append(f"{shown_path(place, root)}: {error}")
        return None


def shown_path(place: Path, root: Path) -> str:
    """How a record in a folder is named to a user: ``trials/abc/record.json``."""
    return str((place / "record.json").relative_to(root.parent))


def folders_in(folder: Path, damaged: list[str]) -> Iterator[Path]:
    """Every folder under ``folder`` that holds a record, in name order. Links are not followed.

    Args:
        folder: looked through.
        damaged: is told of folders that cannot be opened, and of links in their place.
    """

    def unreadable(error: OSError) -> None:
        damaged.append(f"{Path(error.filename).relative_to(folder.parent)}: it cannot be opened: {error.strerror}")

    for here, below, files in os.walk(folder, onerror=unreadable if folder.exists() else None):
        below.sort()
        for name in below:
            if os.path.islink(os.path.join(here, name)) and os.path.lexists(os.path.join(here, name, "record.json")):
                damaged.append(f"{Path(here, name).relative_to(folder.parent)}: it is a link, which is not followed")
        if "record.json" in files or "record.json" in below:
            yield Path(here)


def records_in(folder: Path) -> Iterator[tuple[Path, Record]]:
    """Every sound record under ``folder``, with its own folder, in name order; `look_through` also tells of the others."""
    for place in folders_in(folder, []):
        if (record := Record.read(place)) is not None:
            yield place, record


def disk_full(error: OSError) -> str:
    """In words, if the error says that nothing more can be written; else an empty text."""
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
    where = f" ({error.filename})" if error.filename else ""
    return f"nothing more can be written{where}: {os.strerror(error.errno)}" if error.errno in full else ""
