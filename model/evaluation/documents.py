"""Documents one after another, the longest first: how they are queued, grouped and cut into chunks of their own.

What is learned from one document may then help the documents behind it in the queue. An evaluator of that kind announces the
queue (`Evaluator.order`), so that the audit can test causality along it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from golflab.model.evaluation.adapters import Adapter
from golflab.model.evaluation.reader import Reader, Scored, Text
from golflab.model.recipe import Recipe


def documents_of(text: Text) -> np.ndarray:
    """First input and end of every document that has inputs, in the order of the text: (documents, 2)."""
    edges = np.unique([0, *(b for b in text.begins if b < text.inputs), text.inputs])
    return np.stack([edges[:-1], edges[1:]], axis=1)


def longest_first(lengths: np.ndarray) -> np.ndarray:
    """Numbers of documents, sorted by their inputs (documents,), the longest first; equals keep the order of the text."""
    return np.argsort(-lengths, kind="stable")


class DocumentWalk(Adapter):
    """Scores documents in groups, in the order of the queue, by the windows of the plan; learns nothing.

    The windows must not cross the beginning of a document.

    Attributes:
        batch: documents of a group, at most.
        pauses: numbers of documents after which a group must end, because something learns from those documents.
    """

    batch = 64
    pauses: tuple[int, ...] = ()

    def queue(self, lengths: np.ndarray) -> np.ndarray:
        """Numbers of the documents in the order in which they are scored, from the inputs of each: (documents,)."""
        return longest_first(lengths)

    def queued(self, text: Text) -> np.ndarray:
        """`documents_of` in the order of the queue."""
        documents = documents_of(text)
        return documents[self.queue(documents[:, 1] - documents[:, 0])]

    def groups(self, documents: np.ndarray) -> list[np.ndarray]:
        """Cut queued documents (documents, 2) into groups that end at the pauses."""
        count = len(documents)
        edges = sorted({0, *(p for p in self.pauses if p < count), count})
        starts = [s for a, b in itertools.pairwise(edges) for s in range(a, b, self.batch)]
        return [documents[a:b] for a, b in zip(starts, [*starts[1:], count], strict=True)]

    def walk(self, reader: Reader, plan: np.ndarray, skip: int = 0, state: dict[str, Tensor] | None = None) -> Iterator[Scored]:
        """See `Adapter.walk`; a stretch is a group of documents."""
        for group in self.groups(self.queued(reader.text))[skip:]:
            edges = np.searchsorted(plan[:, 2], group)  # a plan is in the order of what it scores
            yield reader.score(np.concatenate([plan[first:last] for first, last in edges]))


def mixer_in_the_way(recipe: Recipe) -> str | None:
    """Why a mixer cannot follow documents that learn from each other along the queue; None if the recipe has no mixer."""
    mixer = recipe.technique_in("mixer")
    if mixer is None:
        return None
    return (
        f"documents learn from each other in the order in which they are scored, the longest first, and {mixer.name} learns in "
        "the order of the text. No single order explains both, so the score would be no code length. Leave one of them out."
    )
