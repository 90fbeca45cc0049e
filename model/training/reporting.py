"""Reporting what a run is doing: its stage, and how far that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from golflab.model.shape import Schedule
from golflab.model.training.loop import Source

OnStage = Callable[[str, dict[str, Any]], None]  # called with a stage's name and how far it is: see `golflab.model.run.run`


def no_report(stage: str, how_far: dict[str, Any]) -> None:
    """Report nothing."""


@dataclass
class ReportingSource:
    """A source of batches that also reports how far the training is, since every step asks it for one batch.

    So the training loop needs no code for reporting. It is part of every exported script and of every stage key.

    Attributes:
        source: where the batches come from.
        schedule: of the training.
        report: called with the stage, and with the step and the schedule's steps, seconds and batch_tokens.
        priming: whether the first batch is for the compiler and not a step.
    """

    source: Source
    schedule: Schedule
    report: OnStage
    priming: bool

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
        """This process's inputs and targets (rows, T) of a step."""
        s = self.schedule
        how_far = {"step": step, "steps": s.steps, "seconds": s.seconds, "batch_tokens": s.batch_tokens}
        self.report("compiling" if self.priming else "training", how_far)
        self.priming = False
        return self.source.batch(step, rank, world)
