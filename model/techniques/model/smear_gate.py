"""SmearGate: each position is mixed with the one before it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golflab.model.data.shards import BOS
from golflab.model.network.layers import Scale
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


class Smear(nn.Module):
    """The module that `SmearGate` builds."""

    def __init__(self, width: int, theta: float, mask_documents: bool) -> None:
        super().__init__()
        self.theta = Scale((width,), theta)
        self.mask_documents = mask_documents

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        """x (B,T,D), ids (B,T) -> (B,T,D)."""
        g = self.theta(torch.float32).sigmoid().to(x.dtype)
        if self.mask_documents:  # the first token of a document keeps itself whole
            g = g * (ids != BOS).unsqueeze(-1).to(x.dtype)
        before = nn.functional.pad(x[:, :-1], (0, 0, 1, 0))
        return x + g * (before - x)


@dataclass(frozen=True)
class SmearGate(Technique):
    """Blends every position with its predecessor, by a learned gate per channel.

    x_t ← (1−g)⊙x_t + g⊙x_{t−1}, g = σ(θ), θ (D,), x_{−1} = 0; after the first norm and before x0 is taken, not
    normalised again. At a document's first token the predecessor is the previous document's last token unless
    ``mask_documents`` is on (#1851).
    """

    slot = "stem"
    sources = ("PR #65", "PR #849", "PR #295", "PR #1499", "PR #1851")
    doubt = "It overlaps with BigramHash and the wavelet mixer: all three use the one or two tokens before."

    theta: float = knob(0.0, -4.0, 2.0)
    mask_documents: bool = knob(False, choices=(False, True))

    def build(self, shape: Shape, layer: int | None = None) -> Smear:
        """The gate: x (B,T,D), ids (B,T) -> x."""
        return Smear(shape.width, self.theta, self.mask_documents)
