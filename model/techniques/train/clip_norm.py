"""Gradient clipping by global norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class ClipNorm(Technique):
    """Scales all gradients down together when their common norm exceeds ``norm``.

    This happens after gradients are accumulated and averaged over all processes, so that all clip alike, and before the
    optimizers act. Muon normalises its update, so for matrices only the weight of this step in the momentum changes.
    """

    slot = "clip_grad"
    sources = ("PR #849", "PR #680", "PR #295", "PR #1125")

    norm: float = knob(0.3, 0.01, 10.0, log=True)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[list[nn.Parameter]], Tensor]:
        """Clip the gradients in place and return their norm before."""
        return lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, self.norm)
