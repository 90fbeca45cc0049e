"""The audit's experiments. Each returns {condition number: (state, evidence)}; see `model.audit`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.audit_process import by_input, watch, watch_fresh

if TYPE_CHECKING:
    from model.audit import Auditable, Package

Verdicts = dict[int, tuple[str, str]]

LOOKAHEAD = 32  # tokens; influence from further ahead means that the text was learned from, not just looked at
CUTS = (0.12, 0.35, 0.61, 0.88)  # where the text is altered, as shares of it
PREFIXES = (0.003, 0.4, 1.0)  # behind which distributions are asked for, as shares of the text
MASS_ERROR = 1e-3  # by which the probabilities of all tokens may miss 1
ENUMERATION_SECONDS = 60.0
FRESH_TOKENS = 2_000


class Bench:
    """The evaluator on the bench, with the text experiments are made on.

    Args:
        evaluator: what is judged.
        text: (N,) ids.
        tolerance: nats.
        random: generator of all random choices.

    Attributes:
        nats: (N-1,) scores of the unaltered text.
        settled: (N-1,) how often each was settled.
        seconds: what scoring the text took.
    """

    def __init__(self, evaluator: Auditable, text: np.ndarray, tolerance: float, random: np.random.Generator) -> None:
        self.evaluator, self.text, self.tolerance, self.random = evaluator, text, tolerance, random
        began = time.monotonic()
        self.nats, self.settled = by_input(evaluator.score(text.copy()), len(text) - 1)
        self.seconds = time.monotonic() - began

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """(n,) ids -> (n-1,) nats."""
        return by_input(self.evaluator.score(tokens), len(tokens) - 1)[0]

    def altered(self, cut: int, how: str) -> np.ndarray:
        """The text with everything from token ``cut`` on shuffled or replaced by other tokens."""
        text = self.text.copy()
        tail = text[cut:]
        if how == "shuffled":
            self.random.shuffle(tail)
        else:
            others = self.random.integers(0, self.evaluator.vocabulary - 1, len(tail))
            tail[:] = others + (others >= tail)  # every token becomes another one
        return text

    def moved(self, new: np.ndarray, old: np.ndarray, factor: float = 1.0) -> tuple[np.ndarray, float]:
        """Inputs whose scores differ by more than the tolerance, and by how much at most. Unscored (NaN) must be so in both."""
        gap = np.abs(new - old)
        which = np.flatnonzero(~((gap <= factor * self.tolerance) | (np.isnan(new) & np.isnan(old))))
        return which, float(np.nan_to_num(gap[which], nan=np.inf).max(initial=0.0))


# ---------------------------------------------------------------------- (1) causal, (3) scored before updated, (4) single pass


def causal(bench: Bench) -> Verdicts:
    """Alter later text and look for changes in earlier scores; how far back they reach tells what happened."""
    count = len(bench.text)
    worst, reach, changed = 0.0, 0, 0
    for number, share in enumerate(CUTS):
        cut = max(2, int(share * count) + int(bench.random.integers(0, 7)))
        for how in ("replaced", "shuffled") if number == 1 else ("replaced",):
            scores = bench.score(bench.altered(cut, how))
            which, largest = bench.moved(scores[: cut - 1], bench.nats[: cut - 1])
            if len(which):
                worst, changed = max(worst, largest), changed + len(which)
                reach = max(reach, cut - 1 - int(which[0]))
    passed = single_pass(bench)
    if not reach:
        told = f"altering the text behind {len(CUTS)} places changed no earlier score by more than {bench.tolerance:g} nats"
        return {1: ("pass", told), 3: ("pass", told), 4: passed}
    told = f"altering later text changed {changed} earlier scores, by up to {worst:.3g} nats and {reach} tokens back"
    learned = ("pass", f"no influence from more than {LOOKAHEAD} tokens ahead")
    if reach > LOOKAHEAD:
        learned = ("breach", f"tokens were scored after text up to {reach} tokens ahead had been learned from")
    return {1: ("breach", told), 3: learned, 4: passed}


def single_pass(bench: Bench) -> tuple[str, str]:
    """No score may be settled twice, depend on an earlier call, or know the end of the text at its beginning."""
    if twice := int((bench.settled > 1).sum()):
        return "breach", f"{twice} tokens were scored more than once"
    if missing := int((bench.settled == 0).sum()):
        return "breach", f"{missing} tokens were never scored"
    which, largest = bench.moved(bench.score(bench.text.copy()), bench.nats)
    if len(which):
        return "breach", f"scored again, the same text gave {len(which)} other scores (by up to {largest:.3g} nats)"
    count = len(bench.text)
    start, end = count // 10, count - max(1, count // 20)
    which, _ = bench.moved(bench.score(bench.altered(end, "replaced"))[:start], bench.nats[:start])
    if len(which):
        return "breach", f"the last {count - end} tokens changed scores of the first {start}: the text was passed over twice"
    return "pass", "every token was scored once, the same in a second run, and the beginning without knowledge of the end"


# ---------------------------------------------------------------------- (2) normalised


def normalised(bench: Bench) -> Verdicts:
    """The probabilities of all tokens behind a prefix sum to one, and the scores are theirs."""
    scored = bench.nats[~np.isnan(bench.nats)]
    if not np.isfinite(scored).all() or (scored < -bench.tolerance).any():
        return {2: ("breach", "some scores are infinite, or negative as those of a probability above one")}
    return _announced(bench) if hasattr(bench.evaluator, "distribution") else {2: _enumerated(bench)}


def _announced(bench: Bench) -> Verdicts:
    """Compare what is announced before the token is known with what is charged once it is."""
    lengths = [_round(int(share * len(bench.text)) - 1) for share in PREFIXES]
    masses, gaps = [1.0], []
    for length in lengths:
        prefix, size = bench.text[:length], bench.evaluator.vocabulary
        announced = np.asarray(bench.evaluator.distribution(prefix.copy()), dtype=np.float64)  # type: ignore[attr-defined]
        if announced.shape != (size,) or not np.isfinite(announced).all() or announced.min() < 0:
            return {2: ("breach", f"what is announced behind {length} tokens is not {size} numbers of at least 0")}
        masses.append(float(announced.sum()))
        for token in (int(bench.text[length]), int(bench.random.integers(0, size))):
            charged = bench.score(np.append(prefix, token))[-1]
            gaps.append(float(charged + math.log(max(announced[token], 1e-300))))
    mass = max(masses, key=lambda m: abs(m - 1))
    if abs(mass - 1) > MASS_ERROR:
        return {2: ("breach", f"the probabilities of all {bench.evaluator.vocabulary} tokens sum to {mass:.4g}, not to 1")}
    wrong = [gap for gap in gaps if not abs(gap) <= 10 * bench.tolerance]
    behind = ", ".join(map(str, lengths))
    if not wrong:
        told = (
            f"what is announced behind {behind} tokens sums to 1 within {max(abs(mass - 1), 1e-9):.0e} and is what is charged"
        )
        return {2: ("pass", told)}
    told = (
        f"{len(wrong)} of {len(gaps)} tokens were not charged what was announced (off by up to {max(map(abs, wrong)):.3g} nats)"
    )
    known = ("breach", f"{told}, but always less: they were learned from first")
    return {2: ("breach", told)} | ({3: known} if max(gaps) < -10 * bench.tolerance else {})


def _round(length: int) -> int:
    """A length that whole windows fill, so that an evaluation that drops its tail scores the last token."""
    return max(1, length) if length < 1024 else length // 1024 * 1024


def _enumerated(bench: Bench) -> tuple[str, str]:
    """Without an announced distribution, try every token in the last place and add up what is charged."""
    size = bench.evaluator.vocabulary
    for share in (1.0, 0.25, 0.05, 0.0):
        length = _round(max(min(24, len(bench.text) - 1), int(share * len(bench.text)) - 1))
        began = time.monotonic()
        bench.score(bench.text[: length + 1])
        if (time.monotonic() - began) * size < ENUMERATION_SECONDS:
            break
    mass = sum(math.exp(-bench.score(np.append(bench.text[:length], token))[-1]) for token in range(size))
    told = f"tried behind {length} tokens, the probabilities of all {size} tokens sum to {mass:.6g}"
    return ("pass" if abs(mass - 1) <= MASS_ERROR else "breach"), told


# ---------------------------------------------------------------------- (6) accounting


def accounting(bench: Bench, documents: Sequence[np.ndarray], decode: Callable[[np.ndarray], str] | None) -> Verdicts:
    """Bytes counted equal the UTF-8 length of the decoded text, document by document."""
    count = getattr(bench.evaluator, "count_bytes", None)
    if decode is None or count is None:
        missing = "a trusted decode()" if decode is None else "the evaluator's count_bytes()"
        return {6: ("unchecked", f"it takes {missing} to count bytes twice")}
    whole = documents[: max(1, int(np.searchsorted(np.cumsum([len(d) for d in documents]), len(bench.text), side="right")))]
    text = np.concatenate(whole)
    counted = np.append(0, count(text))  # the first BOS is no target
    total, begin = 0, 0
    for number, document in enumerate(whole):
        mine, real = int(counted[begin : begin + len(document)].sum()), len(decode(document).encode())
        if mine != real:
            return {6: ("breach", f"document {number} was counted as {mine} bytes, its text has {real}")}
        total, begin = total + real, begin + len(document)
    return {6: ("pass", f"all {total:,} bytes of {len(text):,} tokens are those of the decoded text")}


# ---------------------------------------------------------------------- (5) bytes, (7) no training data


def bytes_and_files(bench: Bench, package: Package | None, limit: int) -> Verdicts:
    """Load the evaluator in a fresh process that notes every file it opens, and compare scores and sizes."""
    text = bench.text[: _round(min(len(bench.text), FRESH_TOKENS) - 1) + 1]
    if package is None:
        seen = watch(lambda: bench.score(text))
        files = ("pass", f"no data file was opened while scoring {len(text)} tokens; loading was not watched")
        if seen:
            files = ("breach", f"it opened {_some(seen)} while scoring")
        return {5: ("unchecked", "it takes a package to load the evaluator in a fresh process"), 7: files}
    code = package.code_bytes if package.code_bytes is not None else _size(package.code)
    total = code + _size(package.files)
    found = watch_fresh(package, text)
    if found.error:
        return {
            5: ("breach", f"a fresh process could not load and score it: {found.error}"),
            7: ("unchecked", "it did not load"),
        }
    told = f"{total:,} bytes ({code:,} code), limit {limit:,}; a fresh process scores the same"
    weight = ("pass" if total <= limit else "breach", told)
    which, largest = bench.moved(found.nats, bench.score(text), 10.0)
    if len(which):
        weight = (
            "breach",
            f"loaded in a fresh process, {len(which)} of {len(text)} scores are others (by up to {largest:.3g} nats)",
        )
    files = ("pass", f"a fresh process read nothing but code and {len(package.files) + len(package.free)} declared files")
    if found.opened:
        files = ("breach", f"a fresh process read {_some(found.opened)}, declared nowhere")
    return {5: weight, 7: files}


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (" …" if len(paths) > 3 else "")


def _size(paths: Sequence[Path]) -> int:
    """Bytes of files, and of all Python files in folders."""
    return sum(p.stat().st_size for path in paths for p in ([path] if path.is_file() else path.rglob("*.py")))


# ---------------------------------------------------------------------- (8) time


def in_time(bench: Bench, whole: int, seconds: float) -> Verdicts:
    """Extrapolate from the text on the bench to the whole evaluation, on this machine."""
    expected = bench.seconds * max(1.0, whole / len(bench.text))
    told = (
        f"{len(bench.text):,} tokens took {bench.seconds:.1f} s; all {whole:,} would take {expected:.0f} s on this machine, "
        f"limit {seconds:.0f} s"
    )
    return {8: ("pass" if expected <= seconds else "breach", told)}
