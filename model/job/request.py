"""What the caller of a run asks for besides the recipe: whom to call, and how to train and score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from golflab.model.recipe import Recipe
from golflab.model.ways import Way

OnRung = Callable[[dict[str, Any]], str | None]
OnStep = Callable[[dict[str, Any]], None]
Together = Callable[[Recipe, dict[str, Any]], AbstractContextManager[Any]]  # takes what `golflab.model.run.assist` takes


def alone(recipe: Recipe, settings: dict[str, Any]) -> AbstractContextManager[None]:
    """The default of ``together``: this process trains without others."""
    return nullcontext()


@dataclass(frozen=True)
class Request:
    """What a run is asked for. `golflab.model.run.run` explains every field."""

    on_rung: OnRung | None = None
    on_step: OnStep | None = None
    micro_tokens: int | None = None
    together: Together = alone
    rungs: bool = True
    float_score: bool = True
    ways: Sequence[Way] = ()
