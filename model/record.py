"""Record: what one finished, pruned or failed run leaves behind. Imports no torch, so that an analysis is light.

A record is a folder: ``record.json`` (everything readable) and ``documents.npz`` (bits and bytes of every document
scored, the raw material of paired comparisons). Both are written to a temporary name, flushed and renamed.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from model.files import write_atomic

STATES = ("complete", "pruned", "failed", "not_fitting")


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
        code_bytes: the code that must travel with the weights.
        bytes_forecast: ``low``, ``mid``, ``high`` bytes predicted before training.
        parameters: number of parameters.
        tokens: training tokens seen.
        seconds: training seconds on the clock (of the training it shares, if it came from the stage cache).
        tokens_per_second: their ratio.
        trained: whether this run trained, or found its training in the stage cache.
        training: key of the training it used; runs that share it differ only after training.
        stages: seconds spent per stage in this run.
        curve: training curve: dictionaries with step, tokens, seconds, loss, and bpb and bytes at rungs.
        notes: anything a reader should know (what was retried, what was clipped).
        machine: versions and hardware.
        overlap: how much of the held-out text stands in the training text: `model.overlap.overlap`.
        finishings: what else the training was finished with, and the paired differences: see `model.ways.compare`.
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

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"record: state={self.state!r} must be one of {', '.join(STATES)}.")

    def summary(self) -> dict[str, Any]:
        """The object `golflab run --json` prints."""
        keys = "preset recipe seed state reason bpb bpb_float bytes code_bytes bytes_forecast parameters tokens seconds"
        return {key: getattr(self, key) for key in [*keys.split(), "tokens_per_second"]}

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
        """Read a record back; fields a later version added are ignored."""
        body = json.loads((folder / "record.json").read_text())
        return Record(**{f.name: body[f.name] for f in fields(Record) if f.name in body})

    @staticmethod
    def read(folder: Path) -> Record | None:
        """The record in a folder; None where there is none or it is damaged, so that its run is repeated."""
        try:
            return Record.load(folder)
        except (FileNotFoundError, ValueError, TypeError):
            return None


def load_documents(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Bits (documents,) and bytes (documents,) of a record's evaluation."""
    with np.load(folder / "documents.npz", allow_pickle=False) as stored:
        return stored["bits"], stored["bytes"]


def records_in(folder: Path) -> Iterator[tuple[Path, Record]]:
    """Every readable record under ``folder``, with its own folder, in name order."""
    for path in sorted(folder.glob("**/record.json")):
        if (record := Record.read(path.parent)) is not None:
            yield path.parent, record


def disk_full(error: OSError) -> str:
    """In words, if the error says that nothing more can be written; else an empty text."""
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
    where = f" ({error.filename})" if error.filename else ""
    return f"nothing more can be written{where}: {os.strerror(error.errno)}" if error.errno in full else ""
