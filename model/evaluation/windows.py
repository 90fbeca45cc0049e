"""Windows: which inputs the model reads at once, and which of their targets it scores.

A text of N tokens has N-1 inputs; input i has target token i+1. A window is (begin, end, first): the model reads inputs
begin…end-1 and scores first…end-1. A plan is a (windows, 3) int64 array, ordered by ``first``, that scores every input
exactly once. Techniques in the slot `windows` build a function ``(inputs, begins) -> plan``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

Plan = Callable[[int, np.ndarray], np.ndarray]  # (number of inputs, positions of BOS) -> (windows, 3)

BUCKET = 64  # lengths of windows cut short by the end of a text are padded to a multiple of this


def slide(begin: int, end: int, length: int, stride: int) -> np.ndarray:
    """Windows over inputs begin…end-1: (windows, 3).

    The first scores everything it reads; each later one starts ``stride`` further and scores only its last ``stride``
    inputs. One is kept only if it scores something new, so the last may be short. With stride = length they are chunks.
    """
    later = max(0, -(-(end - begin - length) // stride))
    starts = begin + stride * np.arange(1 + later, dtype=np.int64)
    firsts = starts + length - stride
    firsts[0] = begin
    return np.stack([starts, np.minimum(starts + length, end), firsts], axis=1)


def lay(inputs: int, begins: np.ndarray, length: int, stride: int, isolated: bool) -> np.ndarray:
    """`slide` over the whole text or, isolated, over every document by itself, so that no window crosses a BOS."""
    if inputs < 1:
        return np.zeros((0, 3), dtype=np.int64)
    edges = [0, *(int(b) for b in begins if 0 < b < inputs), inputs] if isolated else [0, inputs]
    return np.concatenate([slide(a, b, length, stride) for a, b in itertools.pairwise(edges)])


def alike(windows: np.ndarray, tokens: int) -> Iterator[tuple[np.ndarray, int]]:
    """Group windows into batches of one shape: equal first scored offset and, after padding, equal length.

    Args:
        windows: (windows, 3).
        tokens: inputs a batch may hold, padding included.

    Yields:
        (batch, 3) windows and the length they are padded to.
    """
    longest = int((windows[:, 1] - windows[:, 0]).max(initial=1))
    lengths = np.minimum(-(-(windows[:, 1] - windows[:, 0]) // BUCKET) * BUCKET, longest)
    offsets = windows[:, 2] - windows[:, 0]
    keys = lengths * (longest + 1) + offsets
    for key in np.unique(keys)[::-1]:
        group = windows[keys == key]
        length = int(key) // (longest + 1)
        rows = max(1, tokens // length)
        for start in range(0, len(group), rows):
            yield group[start : start + rows], length


def rounds(plan: np.ndarray, chunk: int) -> list[np.ndarray]:
    """Split a plan into stretches of ``chunk`` inputs; a window belongs where its first scored input lies."""
    which = plan[:, 2] // chunk
    return [plan[which == number] for number in np.unique(which)]
