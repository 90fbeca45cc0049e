"""AsymLogit: positive and negative logits are bounded by two learned numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golflab.model.network.kernels import LogitMap
from golflab.model.network.layers import Scale
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob
from golflab.model.techniques.model.softcap import TanhCap


class AsymCap(nn.Module):
    """The module that `AsymLogit` builds: one bound for each sign.

    Attributes:
        in_training: the map that the training loss uses; itself where the bounds are trained.
    """

    def __init__(self, cap: float, live: bool) -> None:
        super().__init__()
        self.positive = Scale((1,), cap)
        self.negative = Scale((1,), cap)
        self.fixed = None if live else TanhCap(cap)

    @property
    def in_training(self) -> LogitMap:
        """The map in the training loss."""
        return self if self.fixed is None else self.fixed

    def forward(self, z: Tensor) -> Tensor:
        """(N,V) float32 -> (N,V), between −negative and positive."""
        cap = self._cap(z)
        return cap * torch.tanh(z / cap)

    def slope(self, out: Tensor) -> Tensor:
        """1 − (out/cap)² with the cap of the sign: the derivative at ``out = self(z)``."""
        return 1.0 - (out / self._cap(out)) ** 2

    def _cap(self, z: Tensor) -> Tensor:
        return torch.where(z > 0, self.positive(z.dtype), self.negative(z.dtype))


@dataclass(frozen=True)
class AsymLogit(Technique):
    """Bounds positive and negative logits by a learned number each: cap·tanh(z/cap), where cap depends on the sign of z.

    cap = p where z > 0, else n; p and n start at ``cap``. In the ``live`` form the training loss reads them. In the
    ``published`` form it reads the constant ``cap``, and only scoring reads p and n. They then never get a gradient and stay
    where they start: the technique is `softcap` with two more parameters.
    """

    slot = "logits"
    sources = ("PR #1945", "PR #1953", "PR #2014", "PR #2135")
    doubt = (
        "In four accepted rows it is on and dead: its two numbers never leave their start. What it is worth alive is unknown."
    )

    cap: float = knob(30.0, 5.0, 200.0, log=True)
    form: str = knob("live", choices=("live", "published"), faults=("published",))

    def build(self, shape: Shape, layer: int | None = None) -> AsymCap:
        """The bounds: (N,V) -> (N,V)."""
        return AsymCap(self.cap, self.form == "live")
