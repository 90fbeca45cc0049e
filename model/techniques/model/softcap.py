"""Logit softcap: logits are bounded smoothly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class TanhCap:
    """c·tanh(z/c) and its derivative."""

    cap: float

    def __call__(self, z: Tensor) -> Tensor:
        """(N,V) -> (N,V), every value inside (−cap, cap)."""
        return self.cap * torch.tanh(z / self.cap)

    def slope(self, out: Tensor) -> Tensor:
        """1 − (out/c)², the derivative at ``out = self(z)``."""
        return 1.0 - (out / self.cap) ** 2


@dataclass(frozen=True)
class Softcap(Technique):
    """Bounds the logits: cap·tanh(z/cap), in training and at evaluation.

    Test-time adapters of the head act before the cap, a temperature after it.
    """

    slot = "logits"
    sources = ("baseline", "arXiv 2408.00118")

    cap: float = knob(30.0, 5.0, 200.0, log=True)

    def build(self, shape: Shape, layer: int | None = None) -> TanhCap:
        """The cap: (N,V) -> (N,V)."""
        return TanhCap(self.cap)
