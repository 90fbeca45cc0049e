"""Rotary position embedding over the whole head."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.recipe import Shape
from model.technique import Technique, knob


class Rotary(nn.Module):
    """Rotates the first ``dims`` of every head by angles that grow with the position.

    Pairs are (i, i + dims/2): (a cos + b sin, −a sin + b cos) with angle position·base^(−2i/dims), in float32.
    """

    def __init__(self, dims: int, base: float, length: int) -> None:
        super().__init__()
        self.dims, self.base = dims, base
        self._extend(length, torch.device("cpu"))

    def _extend(self, length: int, device: torch.device) -> None:
        frequencies = self.base ** -(torch.arange(0, self.dims, 2, device=device).float() / self.dims)
        angles = torch.outer(torch.arange(length, device=device).float(), frequencies)
        self.register_buffer("cos", angles.cos().unsqueeze(1), persistent=False)  # (T,1,dims/2)
        self.register_buffer("sin", angles.sin().unsqueeze(1), persistent=False)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """x (B,T,H,d), the position of its first row -> rotated x."""
        end = first + x.size(1)
        if end > self.cos.size(0):
            self._extend(end, self.cos.device)
        cos, sin = self.cos[first:end].to(x.dtype), self.sin[first:end].to(x.dtype)
        a, b, rest = x.split([self.dims // 2, self.dims // 2, x.size(-1) - self.dims], -1)
        return torch.cat([a * cos + b * sin, b * cos - a * sin, rest], -1)


def ntk_base(base: float, dims: int, length: int, trained: int) -> float:
    """The base for ``length`` positions where ``trained`` were meant (0: any): base·(length/trained)^(dims/(dims−2))."""
    if trained and length > trained:
        base *= (length / trained) ** (dims / (dims - 2))
    return base


@dataclass(frozen=True)
class Rope(Technique):
    """Rotates queries and keys by their position, over all dimensions of the head.

    ``ntk_from`` stretches the base to base·(T/ntk_from)^(d/(d−2)) where the context T is longer (0: never). The base is
    that of training at any evaluation length.
    """

    slot = "rotary"
    sources = ("baseline", "arXiv 2104.09864")

    base: float = knob(10_000.0, 100.0, 1_000_000.0, log=True)
    ntk_from: int = knob(0, 0, 65_536)

    def build(self, shape: Shape, layer: int | None = None) -> Rotary:
        """The rotation: q or k (B,T,H,d), first position -> same."""
        return Rotary(shape.head_width, ntk_base(self.base, shape.head_width, shape.context, self.ntk_from), shape.context)

    def rescale(self, old: Shape, new: Shape) -> Rope:
        """The length the base was meant for keeps its ratio to the context."""
        return dataclasses.replace(self, ntk_from=self.ntk_from * new.context // old.context)
