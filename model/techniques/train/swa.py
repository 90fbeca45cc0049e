"""SWA: the mean of weights collected during the warmdown is exported instead of the last weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


class CollectedMean:
    """The plain mean, in float32, of the weights collected below a multiplier."""

    def __init__(self, threshold: float, every: float) -> None:
        self.threshold, self.every = threshold, every
        self.sums: list[Tensor] = []
        self.count = 0.0
        self.next = 0.0  # progress at which the next weights are collected

    def start(self, weights: list[Tensor]) -> None:
        """Prepare the sums."""
        self.sums = [torch.zeros_like(w, dtype=torch.float32) for w in weights]

    @torch.no_grad()
    def update(self, weights: list[Tensor], step: int, progress: float, multiplier: float) -> None:
        """Take in the weights after a step if they are due."""
        if multiplier < self.threshold and progress >= self.next:
            torch._foreach_add_(self.sums, [w.detach() for w in weights])
            self.count += 1.0
            self.next = progress + self.every

    def value(self) -> list[Tensor] | None:
        """The mean, or None where nothing was collected."""
        return [s / self.count for s in self.sums] if self.count else None


@dataclass(frozen=True)
class SWA(Technique):
    """Exports the mean of the weights collected every ``every`` of the run while the multiplier is below ``threshold``.

    The published "start fraction" is a threshold on the learning-rate multiplier, not a share of the run. A threshold of 0.2 is
    "tight SWA". The sum is kept in float32.
    """

    slot = "average"
    sources = ("PR #295", "PR #180", "PR #374", "arXiv 1803.05407")
    doubt = (
        "−0.001 bpb at full length, +0.037 bpb in a run of 950 steps (#1125). #849 and #680 collect the mean but never use it."
    )
    always_kept: ClassVar[tuple[dict[str, float], ...]] = ({"threshold": 0.4}, {"threshold": 0.2})

    threshold: float = knob(0.4, 0.01, 1.0)
    every: float = knob(0.01, 0.0, 0.2)

    def build(self, shape: Shape, layer: int | None = None) -> CollectedMean:
        """The running mean."""
        return CollectedMean(self.threshold, self.every)
