"""The lines that `benchmarks.frontier` writes, with the bits of every document, and the small file that keeps them."""

from __future__ import annotations

import base64
import json
import lzma
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

TENTHS = 10.0  # bits of a document are kept in tenths; a run's total is kept in full, in ``bpb``
KEY = ("group", "rung", "corpus", "seed", "machine", "arm")  # tell a line from every other; the order of the lines
LEFT_OUT = ("stages", "took", "state", "error")  # of a run, from the small file


def encoded(bits: np.ndarray, sizes: np.ndarray) -> dict[str, str]:
    """Bits and bytes by document, (documents,) each, as two short texts of a line."""
    return {"document_bits": _packed(np.rint(bits * TENTHS)), "document_bytes": _packed(sizes)}


def decoded(line: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Bits (documents,) float64, scaled so that they add up to the line's score, and bytes (documents,) of a line."""
    bits, sizes = _unpacked(line["document_bits"]) / TENTHS, _unpacked(line["document_bytes"])
    return bits * (line["bpb"] * sizes.sum() / bits.sum()), sizes


def _packed(numbers: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.asarray(numbers).astype("<i4").tobytes(), 9)).decode()


def _unpacked(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i4").astype(np.float64)


def known(path: Path, must_exist: bool = False) -> list[dict[str, Any]]:
    """The lines of a file of `write`, or of a run's ``runs.jsonl``; none where there is no file.

    A line that a killed process left torn is not read.

    Raises:
        ValueError: another line is damaged, or there is no file although it must exist.
    """
    if not path.is_file() and must_exist:
        raise ValueError(f"{path} does not exist. Write it with --write from the runs.jsonl of a run.")
    if not path.is_file():
        return []
    text = lzma.decompress(path.read_bytes()).decode() if path.suffix == ".xz" else path.read_text(encoding="utf-8")
    try:
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} has a damaged line: {error}. Remove that line.") from None


def mend(path: Path) -> None:
    """Cut a torn last line off, so that the next line begins on its own."""
    if path.is_file() and not (text := path.read_text(encoding="utf-8")).endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")


def write(lines: Iterable[dict[str, Any]], path: Path) -> None:
    """Write lines in one order, each once, compressed: the same bytes for the same runs."""
    each = {tuple(str(line[name]) for name in KEY): line for line in lines}
    kept = [{k: v for k, v in each[key].items() if k not in LEFT_OUT} for key in sorted(each)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress("".join(json.dumps(line, sort_keys=True) + "\n" for line in kept).encode(), preset=9))
