"""Conditions 5, 7 and 8: the submitted package. It is loaded in a fresh process; its size, files and time are measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from golflab.model.audit.experiments.bench import Bench
from golflab.model.audit.experiments.causal import SHAPES
from golflab.model.audit.verdict import Package, Verdicts
from golflab.model.isolation.watch import verdict_of_files, watch, watch_fresh

FRESH_TOKENS = 2_000  # scored in the fresh process, unless all of the text takes no longer than FRESH_SECONDS
FRESH_SECONDS = 5.0


def bytes_and_files(bench: Bench, package: Package | None, limit: int) -> Verdicts:
    """Conditions 5 and 7: the same scores in a fresh process, the size of the package, and the files that the process reads."""
    count = len(bench.text.tokens) if bench.seconds < FRESH_SECONDS else min(len(bench.text.tokens), FRESH_TOKENS)
    text = bench.text.tokens[: count if count < 1024 else (count - 1) // 1024 * 1024 + 1]
    if package is None:
        seen = watch(lambda: bench.tried(text))
        evidence = f"no data file was opened while scoring {len(text):,} tokens, but loading was not watched; give a package"
        files = ("breach", f"it opened {_some(seen)} while scoring") if seen else ("unchecked", evidence)
        return {5: ("unchecked", "loading the evaluator in a fresh process needs a package"), 7: files}
    here = bench.tried(text)
    found = watch_fresh(package, text, here)
    files = verdict_of_files(found, package)
    if found.error:
        return {5: ("breach", f"a fresh process could not load and score it: {found.error}"), 7: files}
    return {5: _weight(bench, package, limit, here, found.nats), 7: files}


def _weight(bench: Bench, package: Package, limit: int, here: np.ndarray | None, nats: np.ndarray) -> tuple[str, str]:
    """Whether the package is within the limit, and gives the scores that were judged."""
    if here is not None:
        which, largest = bench.moved(nats, here, SHAPES)
        if len(which):
            return "breach", f"in a fresh process, {len(which):,} of {len(nats):,} scores differ (by up to {largest:.3g} nats)"
    code = package.code_bytes if package.code_bytes is not None else size_of(package.code)
    declared = {str(path) for path in (*package.files, *package.code, *package.free)}
    code += sum(len(text.encode()) for text in package.arguments if text not in declared)  # weights may be hidden in text
    total = code + size_of(package.files)
    evidence = f"{total:,} bytes ({code:,} code), limit {limit:,}"
    tokenizers = [path for path in package.free if "token" in path.name or path.suffix == ".model"]
    if tokenizers:
        weight = size_of(tokenizers)
        evidence += f"; with the tokenizer's {weight:,}, which do not count, {total + weight:,}"
    return ("pass" if total <= limit else "breach"), f"{evidence}; a fresh process scores {len(nats):,} targets the same"


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (" …" if len(paths) > 3 else "")


def size_of(paths: Sequence[Path]) -> int:
    """Bytes of files, and of all Python files in folders."""
    return sum(p.stat().st_size for path in paths for p in ([path] if path.is_file() else path.rglob("*.py")))


def in_time(bench: Bench, whole: int, seconds: float) -> tuple[str, str]:
    """Condition 8: extrapolate from the scored text to the whole evaluation, on this machine."""
    expected = bench.seconds * max(1.0, whole / len(bench.text.tokens))
    return ("pass" if expected <= seconds else "breach"), (
        f"{len(bench.text.tokens):,} tokens took {bench.seconds:.1f} s; all {whole:,} would take {expected:.0f} s on this "
        f"machine, limit {seconds:.0f} s"
    )
