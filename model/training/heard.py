"""A run that tells what it is doing: which stage is at work, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from golflab.model.shape import Schedule
from golflab.model.training.loop import Source

OnStage = Callable[[str, dict[str, Any]], None]  # a stage's name, and how far it is: see `golflab.model.run.run`


def unheard(stage: str, how_far: dict[str, Any]) -> None:
    """Nobody wants to know."""


@dataclass
class Heard:
    """A source of batches that tells how far the training is: it is asked for one batch a step.

    So the training loop, which travels in every script and is part of every key, knows nothing of being watched.

    Attributes:
        source: where the batches come from.
        schedule: of the training.
        tell: told the step, and the schedule's steps, seconds and batch_tokens.
        priming: whether the first batch is for the compiler, and no step.
    """

    source: Source
    schedule: Schedule
    tell: OnStage
    priming: bool

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
        """This process's inputs and targets (rows, T) of a step."""
        s = self.schedule
        how_far = {"step": step, "steps": s.steps, "seconds": s.seconds, "batch_tokens": s.batch_tokens}
        self.tell("compiling" if self.priming else "training", how_far)
        self.priming = False
        return self.source.batch(step, rank, world)
