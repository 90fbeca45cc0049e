"""Conditions 5, 7 and 8: the evaluator as it travels. It is loaded in a fresh process, weighed, watched and timed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import model.audit_process as process
from model.audit_bench import Bench, Verdicts
from model.audit_causal import SHAPES
from model.audit_process import watch, watch_fresh

if TYPE_CHECKING:
    from model.audit import Package

FRESH_TOKENS = 2_000  # scored in the fresh process, unless all of the text takes no longer than FRESH_SECONDS
FRESH_SECONDS = 5.0


def bytes_and_files(bench: Bench, package: Package | None, limit: int) -> Verdicts:
    """Conditions 5 and 7: the same scores in a fresh process, the size of what travels, and what the process reads."""
    count = len(bench.text.tokens) if bench.seconds < FRESH_SECONDS else min(len(bench.text.tokens), FRESH_TOKENS)
    text = bench.text.tokens[: count if count < 1024 else (count - 1) // 1024 * 1024 + 1]
    if package is None:
        seen = watch(lambda: bench.tried(text))
        told = (
            f"no data file was opened while scoring {len(text):,} tokens, but how it was loaded was not watched; give a package"
        )
        files = ("breach", f"it opened {_some(seen)} while scoring") if seen else ("unchecked", told)
        return {5: ("unchecked", "it takes a package to load the evaluator in a fresh process"), 7: files}
    here = bench.tried(text)
    judge: Any = getattr(process, "verdict_of_files", None)
    fresh: Any = watch_fresh
    found = fresh(package, text, here) if judge else fresh(package, text)
    if found.error:
        return {
            5: ("breach", f"a fresh process could not load and score it: {found.error}"),
            7: _files(found, package) if found.opened else ("unchecked", "it did not load"),
        }
    return {5: _weight(bench, package, limit, here, found.nats), 7: _files(found, package)}


def _weight(bench: Bench, package: Package, limit: int, here: np.ndarray | None, nats: np.ndarray) -> tuple[str, str]:
    """Whether what travels fits, and whether it is what was judged."""
    if here is not None:
        which, largest = bench.moved(nats, here, SHAPES)
        if len(which):
            told = f"loaded in a fresh process, {len(which):,} of {len(nats):,} scores are others (by up to {largest:.3g} nats)"
            return "breach", told
    code = package.code_bytes if package.code_bytes is not None else size_of(package.code)
    total = code + size_of(package.files)
    told = f"{total:,} bytes ({code:,} code), limit {limit:,}"
    tokenizers = [path for path in package.free if "token" in path.name or path.suffix == ".model"]
    if tokenizers:
        weight = size_of(tokenizers)
        told += f"; with the tokenizer's {weight:,}, which do not count, {total + weight:,}"
    return ("pass" if total <= limit else "breach"), f"{told}; a fresh process scores {len(nats):,} targets the same"


def _files(found: Any, package: Package) -> tuple[str, str]:
    """Condition 7, by `model.audit_process` where it says how the process was isolated."""
    if (verdict := getattr(process, "verdict_of_files", None)) is not None:
        state, evidence = verdict(found, package)
        return str(state), str(evidence)
    if found.opened:
        return "breach", f"a fresh process read {_some(found.opened)}, declared nowhere"
    return "pass", f"a fresh process read nothing but code and {len(package.files) + len(package.free)} declared files"


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (" …" if len(paths) > 3 else "")


def size_of(paths: Sequence[Path]) -> int:
    """Bytes of files, and of all Python files in folders."""
    return sum(p.stat().st_size for path in paths for p in ([path] if path.is_file() else path.rglob("*.py")))


def in_time(bench: Bench, whole: int, seconds: float) -> tuple[str, str]:
    """Condition 8: extrapolate from the text on the bench to the whole evaluation, on this machine."""
    expected = bench.seconds * max(1.0, whole / len(bench.text.tokens))
    return ("pass" if expected <= seconds else "breach"), (
        f"{len(bench.text.tokens):,} tokens took {bench.seconds:.1f} s; all {whole:,} would take {expected:.0f} s on this "
        f"machine, limit {seconds:.0f} s"
    )
