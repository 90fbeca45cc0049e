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

    After accumulation and after the average over all processes, which thus clip alike; before the optimisers.
    Muon normalises its update, so for matrices only the weight of this step in the momentum changes.
    """

    slot = "clip_grad"
    sources = ("PR #849", "PR #680", "PR #295", "PR #1125")

    norm: float = knob(0.3, 0.01, 10.0, log=True)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[list[nn.Parameter]], Tensor]:
        """Clip the gradients in place and return their norm before."""
        return lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, self.norm)
