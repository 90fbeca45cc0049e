"""Words for messages: counted things in singular and plural, and a known name for one that nothing has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def number_of(count: float, noun: str) -> str:
    """Return a count with its noun: ``1 trial``, ``2 trials``, ``0 trials``, ``1,024 trials``, ``2.5 trainings``.

    Args:
        count: a whole number, or a float that is printed with six digits at most.
        noun: in the singular; its plural ends with s.
    """
    shown = f"{count:g}" if isinstance(count, float) else f"{count:,}"
    return f"{shown} {noun}{'' if count == 1 else 's'}"


def was(count: float) -> str:
    """Return the verb that follows a count: ``was`` or ``were``."""
    return "was" if count == 1 else "were"


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return a question to put behind an error's first sentence, with a space before it; empty if no known name is similar.

    Args:
        word: what the user wrote.
        known: the names there are.
        cutoff: smallest similarity, from 0 to 1, as `difflib.get_close_matches` counts it.
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f" Did you mean {near[0]!r}?" if near else ""
