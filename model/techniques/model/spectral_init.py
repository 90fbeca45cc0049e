"""Spectral initialisation of the token table ("overtone" init)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class SpectralInit(Technique):
    """Gives the token table's singular values a power law at the start.

    E = U S Qᵀ drawn as usual, then S_k ← S_1·k^(−power), k from 1. The largest singular value stays, the others shrink, so
    that a few directions dominate every token vector.
    """

    slot = "table_init"
    sources = ("PR #60", "PR #211", "PR #295")
    doubt = "No effect of this technique alone has been published."

    power: float = knob(0.5, 0.05, 2.0)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Tensor], Tensor]:
        """The initial table: the default draw (V,D) -> (V,D)."""

        def draw(value: Tensor) -> Tensor:
            u, s, qt = torch.linalg.svd(value.double(), full_matrices=False)
            k = torch.arange(1, s.numel() + 1, dtype=s.dtype)
            return (u * (s[0] * k**-self.power) @ qt).float()

        return draw
