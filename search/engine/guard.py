"""A run whose text is another one than the experiment was launched with fails before it starts, with both fingerprints."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from golflab.model.data.corpus import load_corpus
from golflab.model.recipe import Recipe
from golflab.model.record import Record


def on_the_same_text(run: Callable[..., Record], fingerprints: Mapping[str, str]) -> Callable[..., Record]:
    """``run``, which raises a ValueError where a corpus is not what it was.

    Args:
        run: a runner.
        fingerprints: by corpus, as the experiment was launched; the embedded corpus is not looked at.
    """
    if not (known := {name: told for name, told in fingerprints.items() if name != "sotu"}):
        return run

    @functools.wraps(run)
    def checked(recipe: Recipe, folder: Path, cache: Path, **settings: Any) -> Record:
        name = recipe.data.corpus
        if name in known and (now := load_corpus(name).fingerprint) != known[name]:
            raise ValueError(
                f"corpus {name!r} has changed since the search was launched: its fingerprint was {known[name]} and is {now}. "
                "Put the text back; `golflab resume NAME --failed` then runs this trial again"
            )
        return run(recipe, folder, cache, **settings)

    return checked
