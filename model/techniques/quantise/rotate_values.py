"""Values are rotated before they are rounded, and the output matrices back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golflab.model.network.layers import ParameterInfo
from golflab.model.shape import Shape
from golflab.model.technique import Technique


@dataclass(frozen=True)
class RotateValues(Technique):
    """Rotates every head's values by a Hadamard matrix, and the output matrix's columns back: the same function, other weights.

    R = H_d/√d, H_d Sylvester's matrix of ±1; where the head width d is no power of two, R is made of blocks of the largest
    power of two that divides it. Per head W_v ← R W_v and W_o ← W_o Rᵀ. Attention, XSA, gates and residuals of values commute with a
    rotation that all layers share; a value embedding's projection is rotated along. Rotated rows are closer to a Gaussian, with
    fewer outliers. The MLP is left alone: between its matrices stands an activation that does not commute with a rotation.
    """

    slot: ClassVar[str] = "rotate"
    sources: ClassVar[tuple[str, ...]] = ("arXiv:2404.00456", "PR #2130")
    doubt: ClassVar[str] = "Never measured alone in public."

    def build(self, shape: Shape, layer: int | None = None) -> Callable[..., dict[str, Tensor]]:
        """Return (weights by name, infos) -> weights by name."""
        rotation = hadamard(shape.head_width)

        def rotate(weights: dict[str, Tensor], infos: list[ParameterInfo]) -> dict[str, Tensor]:
            turned = dict(weights)
            for info in infos:
                weight = weights[info.name].float()
                r = rotation.to(weight.device)
                if _makes_values(info):
                    turned[info.name] = (r @ weight.unflatten(0, (-1, len(r)))).flatten(0, 1)
                elif info.name.endswith(".attention.out.weight"):
                    turned[info.name] = (weight.unflatten(1, (-1, len(r))) @ r.T).flatten(1)
            return turned

        return rotate


def hadamard(size: int) -> Tensor:
    """An orthogonal matrix (size, size): along its diagonal blocks of p, the largest power of two in ``size``, of ±1/√p."""
    block = torch.ones(1, 1)
    while size % (2 * len(block)) == 0:
        block = torch.cat([torch.cat([block, block], 1), torch.cat([block, -block], 1)])
    return torch.block_diag(*[block / len(block) ** 0.5] * (size // len(block)))


def _makes_values(info: ParameterInfo) -> bool:
    """Whether a matrix's outputs are values of the heads: each layer's own, and a value embedding's projection."""
    return info.name.endswith(".attention.value.weight") or (info.kind == "linear" and info.role == "value")
