"""An entropy coder for weights, in numpy: interleaved rANS with adaptive models and magnitude contexts.

A trained matrix is close to Gaussian with a deviation that differs from row to row and from column to column. Before each
integer is coded, its expected magnitude is estimated from the integers of its line that are already coded, and from those of
its other line in earlier blocks. The level of the estimate chooses one of a few dozen histograms, which all matrices of a grid
share and which adapt with every symbol. Nothing but the integers is stored, because the decoder repeats every estimate. All
arithmetic is on integers or on single IEEE operations, so encoder and decoder agree on every machine.

Many states ("lanes") are coded side by side, so that numpy handles hundreds of integers per operation (Duda,
arXiv:1311.2540; Giesen, arXiv:1402.3392).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BITS = 16  # of a probability
LOW = 1 << 24  # states live in [LOW, LOW << 16); 16-bit words leave and enter
NARROW, WIDE = 8, 64  # lines of the first block and, at most, of later ones
RATIO = 1.148698354997035  # 2^(1/5): magnitude levels per octave
LEVELS = 64  # from 2^-6 to 2^6.8
SMALLEST = 0.015625
PRIOR_COUNT = 200.0  # how many integers a histogram's Gaussian start counts for
FINE = 256.0  # parts of one in a line's sum
LATEST = 4.0  # how many times the plane's mean counts for in the size of the step before
SEGMENT = 512  # bytes that a lane codes, at least
STEP = 32  # a coded integer's count, so that the start may have fractions
FLAT, BYTES, ROWS, COLUMNS, CONSTANT = range(5)  # how a plane is coded

_LEVELS = SMALLEST * np.multiply.accumulate(np.full(LEVELS - 1, RATIO))


class Histograms:
    """Adaptive models over an alphabet of ``size`` symbols, one per context.

    Args:
        start: (contexts, size) int64 counts to begin with, all positive.
    """

    def __init__(self, start: np.ndarray) -> None:
        self.counts = start
        self.size = start.shape[1]
        self.fresh: list[np.ndarray] = []
        self.patience = self.waiting = 256
        self._rebuild()

    def _rebuild(self) -> None:
        """Turn counts into integer frequencies that add up to 2^BITS in every context, none of them zero."""
        spare = (1 << BITS) - self.size
        totals = self.counts.sum(axis=1)
        frequencies = self.counts * spare // totals[:, None] + 1
        best = self.counts.argmax(axis=1)
        frequencies[np.arange(len(best)), best] += (1 << BITS) - frequencies.sum(axis=1)
        ends = frequencies.cumsum(axis=1)
        self.frequencies = frequencies.ravel().astype(np.uint64)
        self.starts = (ends - frequencies).ravel().astype(np.uint64)
        base = np.arange(len(best), dtype=np.int64)[:, None] << BITS
        self.keys = (ends - frequencies + base).ravel()

    def find(self, contexts: np.ndarray, slots: np.ndarray) -> np.ndarray:
        """Flat indices context · size + symbol of the slots (n,) in the contexts (n,)."""
        return np.searchsorted(self.keys, (contexts << BITS) + slots, side="right") - 1

    def learn(self, indices: np.ndarray) -> None:
        """Count coded symbols, given as flat indices; rebuild the frequencies ever more rarely."""
        self.fresh.append(indices)
        self.waiting -= len(indices)
        if self.waiting <= 0:
            seen = np.bincount(np.concatenate(self.fresh), minlength=self.counts.size)
            self.counts += seen.reshape(self.counts.shape) * STEP
            self.patience = min(self.patience + self.patience // 4, 1 << 16)
            self.fresh, self.waiting = [], self.patience
            self._rebuild()


def magnitude_start(largest: int) -> np.ndarray:
    """Counts (LEVELS, 2·largest + 1) of near-Gaussians whose mean magnitude is the middle of each level.

    1/(1 + x²/32σ²)^16 stands in for exp(−x²/2σ²): it needs no library function whose last bit differs between machines.
    """
    edges = np.concatenate([[SMALLEST / RATIO], _LEVELS])
    deviation = (edges * 1.0717734625362931 * 1.2533141373155)[:, None]  # level's geometric middle, mean |x| to σ
    weights = np.zeros((LEVELS, 2 * largest + 1))
    for part in range(-3, 4):
        x = (np.arange(-largest, largest + 1) + part / 7)[None, :] / deviation
        factor = 1.0 / (1.0 + x * x / 32.0)
        for _ in range(4):
            factor = factor * factor
        weights = weights + factor
    totals = np.add.accumulate(weights, axis=1)[:, -1:]
    return (weights / totals * (PRIOR_COUNT * STEP)).astype(np.int64) + 1


def byte_start(flat: bool) -> np.ndarray:
    """Counts (256, 256) of a byte after each byte, near ones likelier, as in the high halves of neighbouring numbers.

    Flat, (1, 256): equal counts, for noise.
    """
    if flat:
        return np.ones((1, 256), dtype=np.int64)
    gaps = np.abs(np.arange(256)[:, None] - np.arange(256)[None, :])
    return 12 * STEP // (1 + gaps * gaps) + 1


def segments(count: int, lanes: int) -> Iterator[np.ndarray]:
    """Positions coded side by side: each lane codes a stretch of its own, so that it knows the byte before."""
    length = max(SEGMENT, -(-count // lanes))
    for offset in range(min(length, count)):
        yield np.arange(offset, count, length)


class Estimates:
    """Expected magnitude of every integer of a plane, from what was coded before it.

    The plane (times, lines) is coded in blocks of lines. In a block, all lines go forward together, a few times per step. So
    every line has a running mean of its own, relative to the mean of the same time on the lines of earlier blocks. The first
    blocks are narrow, so that these means are known early.

    Args:
        times, lines: the plane's shape in the order of coding.
        mean: of the plane's magnitudes, roughly.
        priors: how many integers that mean counts for in the estimate of a line, and of a time (`Traits.priors`).
        lanes: integers per step, at most.
    """

    def __init__(self, times: int, lines: int, mean: float, priors: tuple[float, float], lanes: int) -> None:
        self.times, self.lines, self.mean, self.priors, self.lanes = times, lines, mean, priors, lanes
        self.cross = np.zeros(times, dtype=np.int64)  # sum of magnitudes per time, over the blocks before
        self.sums = np.zeros(lines, dtype=np.int64)  # per line of the block, of magnitudes over their time's size
        self.sizes = np.full(1, mean)
        self.latest = mean

    def steps(self) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Yield (times, lines, contexts (times · lines,)); `saw` must be called with the magnitudes before the next step."""
        left, (line_prior, cross_prior) = 0, self.priors
        while left < self.lines:
            block = slice(left, min(left + min(max(left, NARROW), WIDE, self.lanes), self.lines))
            count = block.stop - left
            self.sums, self.latest = np.zeros(count, dtype=np.int64), self.mean
            portion = self.lanes // count
            for top in range(0, self.times, portion):
                now = slice(top, min(top + portion, self.times))
                # Neighbouring times are alike (tokens of one kind), so the step before is what a time is believed to be
                # until its own lines say otherwise.
                self.sizes = (self.cross[now] + cross_prior * self.latest) / (left + cross_prior)
                line = (self.sums + FINE * line_prior) / (FINE * (top + line_prior))
                yield now, block, np.searchsorted(_LEVELS, (self.sizes[:, None] * line[None, :]).ravel())
            left = block.stop

    def saw(self, now: slice, magnitudes: np.ndarray) -> None:
        """Take in the magnitudes (times, lines) of the step just coded."""
        # Whole numbers add up to the same in any order, which floats need not.
        self.sums += np.floor(magnitudes * (FINE / self.sizes)[:, None]).astype(np.int64).sum(axis=0)
        total = magnitudes.sum(axis=1, dtype=np.int64)
        self.cross[now] += total
        self.latest = (self.mean * LATEST + int(total.sum()) / magnitudes.shape[1]) / (LATEST + len(total))


def lanes_for(symbols: int) -> int:
    """Lanes for so many integers: enough to keep numpy busy, few enough that their states (5 bytes each) do not matter."""
    lanes = 16
    while lanes < 1024 and lanes * 8192 < symbols:
        lanes *= 2
    return lanes


class Encoder:
    """Collects (start, frequency) of every symbol, then writes the stream backwards."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []

    def put(self, starts: np.ndarray, frequencies: np.ndarray) -> None:
        """One step: at most ``lanes`` symbols."""
        self.steps.append((starts.astype(np.uint32), frequencies.astype(np.uint32)))

    def finish(self) -> bytes:
        """Final states, 5 bytes a lane, then the words."""
        states = np.full(self.lanes, LOW, dtype=np.uint64)
        words: list[np.ndarray] = []
        for starts, narrow in reversed(self.steps):
            frequencies = narrow.astype(np.uint64)
            x = states[: len(starts)]
            full = x >= frequencies << np.uint64(24)
            words.append(x[full].astype("<u2"))
            x = np.where(full, x >> np.uint64(16), x)
            whole = x // frequencies
            states[: len(starts)] = (whole << np.uint64(BITS)) + (x - whole * frequencies) + starts
        head = states.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :5].tobytes()
        return head + b"".join(w.tobytes() for w in reversed(words))


class Decoder:
    """Reads what `Encoder` wrote.

    Raises:
        ValueError: the stream is too short, or (in `finish`) does not end where it must.
    """

    def __init__(self, data: bytes, lanes: int) -> None:
        head = lanes * 5
        if len(data) < head or (len(data) - head) % 2:
            raise ValueError(f"artifact: the coded stream has {len(data)} bytes; it is truncated.")
        raw = np.zeros((lanes, 8), dtype=np.uint8)
        raw[:, :5] = np.frombuffer(data, np.uint8, head).reshape(lanes, 5)
        self.states = raw.view("<u8").ravel().astype(np.uint64)
        self.words = np.frombuffer(data, "<u2", offset=head).astype(np.uint64)
        self.position = 0

    def slots(self, count: int) -> np.ndarray:
        """Where the next ``count`` symbols fall in their distributions, (count,) int64."""
        return (self.states[:count] & np.uint64(0xFFFF)).astype(np.int64)

    def take(self, starts: np.ndarray, frequencies: np.ndarray) -> None:
        """Remove the symbols just found."""
        x = self.states[: len(starts)]
        x = frequencies * (x >> np.uint64(BITS)) + (x & np.uint64(0xFFFF)) - starts
        empty = x < LOW
        need = int(np.count_nonzero(empty))
        if need:
            if self.position + need > len(self.words):
                raise ValueError("artifact: the coded stream ends early; it is damaged.")
            x[empty] = (x[empty] << np.uint64(16)) | self.words[self.position : self.position + need]
            self.position += need
        self.states[: len(starts)] = x

    def finish(self) -> None:
        """Check that everything was read and every state is back where the encoder began."""
        if self.position != len(self.words) or bool((self.states != LOW).any()):
            raise ValueError("artifact: the coded stream does not end where it must; it is damaged.")


class Traits(NamedTuple):
    """Side information of a plane, in three bytes before its integers.

    Attributes:
        mode: `ROWS` or `COLUMNS` are its lines, or `CONSTANT`: all zeros.
        level: of its mean magnitude.
        priors: log2 of the integers its mean counts for in the estimates of a line and of a time, four bits each.
    """

    mode: int
    level: int
    priors: int

    @property
    def mean(self) -> float:
        """The mean magnitude that ``level`` stands for."""
        return float(_LEVELS[min(self.level, LEVELS - 2)])

    @property
    def weights(self) -> tuple[float, float]:
        """The two priors as numbers of integers."""
        return float(1 << (self.priors >> 4)), float(1 << (self.priors & 15))

    @property
    def valid(self) -> bool:
        """Whether `traits_of` can have returned this."""
        return self.mode in (ROWS, COLUMNS, CONSTANT) and self.level < LEVELS


def traits_of(magnitudes: np.ndarray) -> Traits:
    """Look at a plane's magnitudes (rows, columns): whose deviations differ more, beyond what chance makes of equal ones?

    The prior of an estimate is the variance of one magnitude over the variance of true means: the more lines differ, the
    sooner their own integers are believed.
    """
    mean, spread = float(magnitudes.mean()), float(magnitudes.var())
    if mean == 0:
        return Traits(CONSTANT, 0, 0)
    rows, columns = (float(magnitudes.mean(axis=axis).var()) - spread / magnitudes.shape[axis] for axis in (1, 0))
    first, second = [min(15, max(1, round(math.log2(max(spread, 1e-9) / max(x, 1e-9))))) for x in (rows, columns)]
    level = int(np.searchsorted(_LEVELS, mean))
    return Traits(ROWS, level, first << 4 | second) if rows > columns else Traits(COLUMNS, level, second << 4 | first)
