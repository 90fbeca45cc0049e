"""The texts that experiments score: documents one after another, and the order in which an evaluator scores them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Text:
    """Tokens (n,) of some documents one after another, and where each begins; the first begins at 0."""

    tokens: np.ndarray
    begins: np.ndarray

    @property
    def documents(self) -> list[np.ndarray]:
        """The documents."""
        return np.split(self.tokens, self.begins[1:])

    @cached_property
    def document_of(self) -> np.ndarray:
        """Number of each token's document: (n,)."""
        return np.searchsorted(self.begins, np.arange(len(self.tokens)), side="right") - 1

    @cached_property
    def fixed(self) -> np.ndarray:
        """Which tokens begin a document: (n,) bool. They are never altered."""
        marked = np.zeros(len(self.tokens), dtype=bool)
        marked[self.begins] = True
        return marked


def announced_order(evaluator: Any, text: Text) -> np.ndarray:
    """The order in which an evaluator says it scores documents: (documents,) numbers of documents.

    Raises:
        ValueError: what it says is not each document once.
    """
    documents = text.documents
    order = np.asarray(evaluator.order([d.copy() for d in documents]))
    if order.shape != (len(documents),) or not np.array_equal(np.sort(order), np.arange(len(documents))):
        raise ValueError(
            f"audit: order() of {len(documents)} documents gave {order.tolist()[:8]}; it must name each of them once, "
            "in the order in which they are scored."
        )
    return order.astype(np.int64)
