"""Design matrices whose pair columns are never stored, and a pseudo-inverse that says what is aliased."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

BLOCK = 8192
NULL = 1e-9  # an eigenvalue of the scaled Gram matrix below this is exact aliasing


@dataclass(frozen=True)
class Design:
    """A model matrix: plain columns, then products of pairs of them.

    Attributes:
        columns: (runs, m) float64.
        names: m names.
        pairs: indices of the columns multiplied.
    """

    columns: np.ndarray
    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return self.columns.shape[1] + len(self.pairs)

    def label(self, index: int) -> str:
        """Name of a coefficient; a pair is written ``a × b``."""
        plain = self.columns.shape[1]
        if index < plain:
            return self.names[index]
        a, b = self.pairs[index - plain]
        return f"{self.names[a]} × {self.names[b]}"

    def block(self, start: int) -> np.ndarray:
        """Rows ``start`` to ``start + BLOCK``: (rows, size)."""
        part = self.columns[start : start + BLOCK]
        if not self.pairs:
            return part
        left, right = np.array(self.pairs).T
        return np.hstack([part, part[:, left] * part[:, right]])

    def take(self, kept: list[int]) -> Design:
        """The same plain columns with only these of the pairs."""
        return Design(self.columns, self.names, tuple(self.pairs[k] for k in kept))

    def gram(self, responses: np.ndarray) -> np.ndarray:
        """(size + r, size + r) cross products of the columns and the responses (runs, r).

        Products of pairs of ±½ columns are multiples of 1/16, so that their sums over a block are exact in float32, at twice
        the speed.
        """
        plain, size = self.columns.shape[1], self.size
        total = np.zeros((size + responses.shape[1],) * 2)
        rest = [*range(plain), *range(size, len(total))]
        for start in range(0, len(self.columns), BLOCK):
            rows = np.hstack([self.columns[start : start + BLOCK], responses[start : start + BLOCK]])
            total[np.ix_(rest, rest)] += rows.T @ rows
            if self.pairs:
                products = self.products(start)
                total[plain:size, plain:size] += products.T @ products
                total[np.ix_(rest, range(plain, size))] += rows.T @ products
        total[plain:size, rest] = total[np.ix_(rest, range(plain, size))].T
        return total

    def products(self, start: int) -> np.ndarray:
        """Pair columns of a block of rows, (rows, pairs) float32: exact for techniques coded ±½."""
        part = self.columns[start : start + BLOCK].astype(np.float32)
        left, right = np.array(self.pairs).T
        return part[:, left] * part[:, right]


def pseudo_inverse(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of a Gram matrix and a basis of its null space (size, k), in the units of the columns."""
    scale = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), 1.0))
    scaled = gram / np.outer(scale, scale)
    empty = np.diag(gram) <= 0
    scaled[empty, empty] = 0.0
    try:
        factor = linalg.cho_factor(scaled, lower=True, check_finite=False)
        if np.diag(factor[0]).min() > 1e-3:
            inverse = linalg.cho_solve(factor, np.eye(len(gram)), check_finite=False)
            return inverse / np.outer(scale, scale), np.zeros((len(gram), 0))
    except linalg.LinAlgError:
        pass
    values, vectors = linalg.eigh(scaled, check_finite=False)
    small = values < NULL * max(len(gram), 1)
    kept = vectors[:, ~small]
    inverse = (kept / values[~small]) @ kept.T
    return inverse / np.outer(scale, scale), vectors[:, small]
