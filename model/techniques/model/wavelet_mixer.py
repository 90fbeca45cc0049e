"""Wavelet-lite mixer: in a few channels each position is mixed with the one two before it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golflab.model.network.layers import Scale
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


class Leak(nn.Module):
    """The module that `WaveletMixer` builds for one block."""

    def __init__(self, channels: int, start: float) -> None:
        super().__init__()
        self.channels = channels
        self.weight = Scale((channels,), start)

    def forward(self, x: Tensor) -> Tensor:
        """x (B,T,D) -> same shape; only the first channels change."""
        w, rest = x[..., : self.channels], x[..., self.channels :]
        # Two back; the second position has only the first one, the first position only itself.
        back = torch.cat([w[:, :1], w[:, :1], w[:, :-2]], 1)[:, : w.size(1)]
        return torch.cat([w + self.weight(x.dtype) * 0.5 * (back - w), rest], -1)


@dataclass(frozen=True)
class WaveletMixer(Technique):
    """Mixes a share of the position two back into the first ``channels`` channels, between attention and MLP.

    As published: p_t = w_{t−1}, low = (w+p)/√2, high = (w−p)/√2, low'_t = low_t + s⊙(low_{t−1} − low_t), out = (low' +
    high)/√2. In that expression p cancels: out_t = w_t + (s/2)⊙(w_{t−2} − w_t), and this is what is computed; s
    (channels,) per block from ``start``.
    """

    slot = "mix"
    sources = ("PR #680",)
    doubt = "One run each: +0.0023 bpb with 16 channels; −0.0079 bpb with 64 channels, part of it from more steps."

    channels: int = knob(16, 1, 512, log=True)
    start: float = knob(0.25, 0.0, 1.0)

    def build(self, shape: Shape, layer: int | None = None) -> Leak:
        """The leak of one block: x (B,T,D) -> x."""
        return Leak(min(self.channels, shape.width), self.start)

    def canonical(self, recipe: Recipe) -> Technique:
        """There are no more channels than the stream has."""
        return self._with(channels=min(self.channels, recipe.shape.width))

    def rescale(self, old: Shape, new: Shape) -> WaveletMixer:
        """The same share of the channels."""
        return dataclasses.replace(self, channels=max(1, self.channels * new.width // old.width))
