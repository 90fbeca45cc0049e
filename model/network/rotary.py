"""Rotary position embedding: what `rope` and `partial_rope` build."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Rotates the first ``dims`` of every head by angles that grow with the position.

    Pairs are (i, i + dims/2): (a cos + b sin, −a sin + b cos) with angle position·base^(−2i/dims), in float32.
    """

    def __init__(self, dims: int, base: float, length: int) -> None:
        super().__init__()
        self.dims, self.base = dims, base
        self.cos: Tensor
        self.sin: Tensor
        self._extend(length, None)

    def _extend(self, length: int, device: torch.device | None) -> None:
        if (
            device is None and torch.get_default_device().type == "meta"
        ):  # only shapes are needed; filling the tables would take two fifths of the time of a forecast
            shape = length, 1, self.dims // 2
            self.register_buffer("cos", torch.empty(shape), persistent=False)
            self.register_buffer("sin", torch.empty(shape), persistent=False)
            return
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
