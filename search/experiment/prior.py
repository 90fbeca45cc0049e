"""The effects that a search expects of techniques before any trial: as its options keep them, and as the sampler takes them.

They are plain numbers in ``experiment.json``, so that a later table of published effects changes nothing in a resume.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from golflab.model.technique import find
from golflab.search.sampler.prior import Expected
from golflab.spaces.space import Space

Row = tuple[str, float, float]  # technique, mean and standard deviation of its effect in bits per byte
ALLOWED = (
    "must be technique -> (mean, standard deviation) in bits per byte. golflab.search(prior='published') and "
    "`golflab search --prior published` take them from what was published."
)


def rows_of(prior: Mapping[str, Sequence[float]] | Iterable[Sequence[Any]]) -> tuple[Row, ...]:
    """Expected effects as options keep them.

    Args:
        prior: technique -> (mean, standard deviation), or rows of the three.

    Raises:
        ValueError: something else, or a standard deviation that is not positive.
    """
    try:
        rows = [(name, *pair) for name, pair in prior.items()] if isinstance(prior, Mapping) else [tuple(row) for row in prior]
        found = tuple((name, float(mean), float(sd)) for name, mean, sd in rows)
    except (TypeError, ValueError):
        raise ValueError(f"prior={prior!r:.80} {ALLOWED}") from None
    for name, mean, sd in found:
        if not isinstance(name, str) or not math.isfinite(mean) or not 0 < sd < math.inf:
            raise ValueError(f"prior: {name!r} has the mean {mean:g} and the standard deviation {sd:g}; it {ALLOWED}")
    return found


def within(prior: Sequence[Row], space: Space) -> tuple[Row, ...]:
    """The expected effects of techniques that a space may switch.

    Raises:
        ValueError: a technique that the catalogue lacks, or one given twice; or the space varies none of them.
    """
    names = [find(name).name for name, _, _ in prior]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"prior: {min(twice)!r} is given twice; give one mean and one standard deviation.")
    varied = {name for rivals in space.choices.values() for name in rivals}
    found = tuple((name, mean, sd) for name, (_, mean, sd) in zip(names, prior, strict=True) if name in varied)
    if prior and not found:
        raise ValueError(
            f"prior: nothing is expected of any technique that the space {space.name!r} varies; leave --prior out, or choose "
            "another --space."
        )
    return found


def effects(prior: Sequence[Row], space: Space) -> list[Expected]:
    """Expected effects by parameters of a space."""
    told = {name: (mean, sd) for name, mean, sd in prior}
    return [
        Expected(parameter, True if rivals == (parameter,) else name, *told[name])
        for parameter, rivals in space.choices.items()
        for name in rivals
        if name in told
    ]


def in_words(prior: Sequence[Row], space: Space) -> list[str]:
    """What a search expects, in sentences; nothing without a prior."""
    if not prior:
        return []
    varied = sum(len(rivals) for rivals in space.choices.values())
    told = ", ".join(f"{name} {mean:+.4f} ± {sd:.4f}" for name, mean, sd in sorted(prior, key=lambda row: row[1]))
    return [
        f"The search expects effects of {len(prior)} of {varied} techniques before it starts (bits per byte, ± one standard "
        f"deviation): {told}. Its trials correct this."
    ]
