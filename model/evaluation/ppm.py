"""Prediction of the next byte by partial matching, and the tree of all tokens' spellings, byte by byte."""

from __future__ import annotations

import numpy as np


class Ppm:
    """Predicts bytes from what followed the last 0 … ``order`` bytes so far (PPM with escape method D, blended).

    P₋₁ is uniform over 256 bytes. For o = 0 … order, with the context of o bytes seen n times, followed by u different bytes
    and by byte b c times: P_o(b) = max(0, 2c − 1)/2n + u/2n · P_{o−1}(b); a context never seen leaves P_{o−1}. Every one
    is a distribution over all bytes. (Cleary & Witten 1984, Howard 1993; without exclusions.)
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self.counts: dict[bytes, dict[int, int]] = {}

    def predict(self, context: bytes) -> np.ndarray:
        """Probabilities (256,) of the byte that follows these bytes."""
        p = np.full(256, 1 / 256)
        for size in range(min(self.order, len(context)) + 1):
            seen = self.counts.get(context[len(context) - size :])
            if seen is None:
                break  # a longer context holds this one, so it was never seen either
            total = sum(seen.values())
            p *= len(seen) / (2 * total)
            p[list(seen)] += (2 * np.fromiter(seen.values(), float, len(seen)) - 1) / (2 * total)
        return p

    def learn(self, context: bytes, text: bytes) -> None:
        """Count the bytes of ``text``, which follow ``context``."""
        whole = context[-self.order :] + text if self.order else text
        first = len(whole) - len(text)
        for at in range(first, len(whole)):
            for size in range(min(self.order, at) + 1):
                seen = self.counts.setdefault(whole[at - size : at], {})
                seen[whole[at]] = seen.get(whole[at], 0) + 1


class Spellings:
    """All tokens, sorted by their bytes: tokens that begin alike lie side by side.

    A node is the beginning of a spelling. Its tokens are ``order[low:high]``; those spelled by exactly its bytes come first and
    end before ``same``.

    Args:
        spelling: the bytes of every token; tokens without bytes are spelled by the root alone.

    Attributes:
        order: (V,) ids, sorted.
        nodes: beginning -> (low, same, high).
        children: beginning -> the bytes (n,) that may follow.
    """

    def __init__(self, spelling: list[bytes]) -> None:
        self.spelling = spelling
        self.order = np.array(sorted(range(len(spelling)), key=lambda token: (spelling[token], token)))
        self.nodes: dict[bytes, tuple[int, int, int]] = {}
        after: dict[bytes, set[int]] = {}
        for place, token in enumerate(self.order.tolist()):
            text = spelling[token]
            for size in range(len(text) + 1):
                low, same, _ = self.nodes.get(text[:size], (place, place, place))
                self.nodes[text[:size]] = (low, place + 1 if size == len(text) else same, place + 1)
                if size:
                    after.setdefault(text[: size - 1], set()).add(text[size - 1])
        self.children = {node: np.array(sorted(found)) for node, found in after.items()}
        self.longest = max(map(len, spelling))
