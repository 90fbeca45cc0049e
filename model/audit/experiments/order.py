"""The order in which documents are scored: announced ones are tested, and unannounced ones must be one order.

An evaluator may score documents in another order than the text's, as the longest first, and learn along that order. Some order
must then explain which document learned from which. If document A influences the scores of B, and B, directly or through
others, those of A, no such order exists: the scores are then not the length of any code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from golflab.model.audit.experiments.bench import Bench
from golflab.model.audit.experiments.texts import Text, announced_order
from golflab.model.audit.verdict import Verdicts

DOCUMENTS = 16  # documents that are altered, to see which others each of them influences
WITHIN, WITHIN_SECONDS = 48, 20.0  # places at which influence inside documents is looked for, and what that may take


def explained(bench: Bench, text: Text, involved: Sequence[int], cuts: Sequence[int]) -> tuple[bool, str]:
    """Whether one order of the documents explains all influences among some of them; and a sentence on it.

    Args:
        bench: with the evaluator.
        text: at least two documents.
        involved: documents that must be among them.
        cuts: places from which altering the text moved earlier scores.
    """
    for cut in cuts:  # does it still happen if only its own document is altered?
        if any(_reaches_back(bench, text, int(text.document_of[cut]), cut, how) for how in ("real", "one", "noise", "real")):
            return False, ""
    chosen = _chosen(bench, text, involved)
    if any(_reaches_back(bench, text, document) for document in chosen[:4]):
        return False, ""  # no order explains that
    edges = {document: influenced(bench, text, document) & set(chosen) for document in chosen}
    if circle := _circle(edges):
        names = " and ".join(map(str, circle)) if len(circle) == 2 else ", ".join(map(str, circle))
        return False, f"no single order explains it: documents {names} influence each other"
    if not any(edges.values()):
        return False, ""
    count = WITHIN if bench.seconds * WITHIN < WITHIN_SECONDS else len(chosen)
    for number in range(count):
        if _reaches_back(bench, text, chosen[number % len(chosen)]):
            return False, ""
    bench.tested += count
    return True, (
        f"documents are not scored in the order of the text, but one order explains the {sum(map(len, edges.values()))} "
        f"influences among {len(chosen)} documents that were altered; "
        f"no document influences its own earlier tokens ({count} positions). Announce the order with order() to have it tested"
    )


def _chosen(bench: Bench, text: Text, involved: Sequence[int]) -> list[int]:
    """Some documents that can be altered: at least three tokens long."""
    lengths = np.diff(np.append(text.begins, len(text.tokens)))
    usable = [int(d) for d in bench.random.permutation(np.flatnonzero(lengths >= 3))]
    first = [d for d in dict.fromkeys(involved) if lengths[d] >= 3][: DOCUMENTS // 2]
    return list(dict.fromkeys([*first, *usable]))[:DOCUMENTS]


def influenced(bench: Bench, text: Text, document: int) -> set[int]:
    """The other documents whose scores change when one is altered."""
    begin, end = _bounds(text, document)
    base, new = bench.base(text), bench.tried(bench.replaced(text, np.arange(begin + 1, end), "real"))
    if base is None or new is None:
        return set()
    which, _ = bench.moved(new, base)
    return {int(d) for d in np.unique(text.document_of[which])} - {document}


def _reaches_back(bench: Bench, text: Text, document: int, cut: int = 0, how: str = "") -> bool:
    """Whether a document's own earlier scores change when it alone is altered from ``cut`` on, by default a random position."""
    begin, end = _bounds(text, document)
    cut = cut or int(bench.random.integers(begin + 2, end))
    if cut < begin + 2:
        return False  # no earlier score of its own
    base, new = bench.base(text), bench.tried(bench.replaced(text, np.arange(cut, end), how))
    if base is None or new is None:
        return True
    which, _ = bench.moved(new[begin : cut - 1], base[begin : cut - 1])
    return bool(len(which))


def _bounds(text: Text, document: int) -> tuple[int, int]:
    ends = np.append(text.begins[1:], len(text.tokens))
    return int(text.begins[document]), int(ends[document])


def _circle(edges: dict[int, set[int]]) -> list[int]:
    """A shortest cycle of documents, each of which influences the next; empty if there is none."""
    best: list[int] = []
    for start in edges:
        before: dict[int, int] = {start: -1}
        queue = [start]
        for here in queue:
            if start in edges.get(here, ()):
                path = [here]
                while path[-1] != start:
                    path.append(before[path[-1]])
                if not best or len(path) < len(best):
                    best = path[::-1]
                break
            for there in sorted(edges.get(here, ())):
                if there not in before:
                    before[there] = here
                    queue.append(there)
    return best


def announced(bench: Bench) -> Verdicts:
    """An announced order must follow from what is known before anything is scored: the lengths of the documents.

    Raises:
        ValueError: it does not name each document once.
    """
    text = bench.text
    first = announced_order(bench.evaluator, text)
    for how in ("real", "noise"):
        other = Text(bench.replaced(text, np.flatnonzero(~text.fixed), how), text.begins)
        if not np.array_equal(announced_order(bench.evaluator, other), first):
            evidence = "the announced order depends on the content of documents; it may depend on their lengths only"
            return {1: ("breach", evidence)}
    if not np.array_equal(first, np.arange(len(first))):
        bench.sequential = False
        bench.notes.append("documents are scored in the announced order, not in that of the text")
    return {}
